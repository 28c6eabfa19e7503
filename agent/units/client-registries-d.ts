import { ofIgnition } from '../engine/registries-drop-in.ts';
import { decodeDataUrl } from '../model/data-url.ts';
import { foreignRegistriesD, planRegistriesD, REGISTRIES_D_DIRECTORY, REGISTRIES_D_PATH } from '../signatures/own-registries-d.ts';
import { OWNED_MARK } from '../system-files/file.ts';
import type { IgnitionConfig, IgnitionResource } from './config.ts';
import { type IgnitionFile, ownFile } from './own-file.ts';

/** The file that tells the engines of clients where signatures are. */
export interface ClientRegistriesD {
  readonly files: readonly IgnitionFile[];
  readonly warnings: readonly string[];
}

/**
 * Plans the file of registries.d for nodes that pull from others. It has a key for each mirror, except for keys in other files of the override: if two
 * files have the same key, every pull fails. Pure.
 * @param existing the override that ours is merged into
 */
export function clientRegistriesD(mirrors: readonly string[], existing: IgnitionConfig | undefined): ClientRegistriesD {
  const others = (existing?.storage?.files ?? []).filter(
    ({ path }) => path.startsWith(`${REGISTRIES_D_DIRECTORY}/`) && path.endsWith('.yaml') && path !== REGISTRIES_D_PATH,
  );
  const read = others.map(({ path, contents }) => ({ file: path, text: textOf(contents) }));
  const own = planRegistriesD(
    { addresses: mirrors, lookaside: undefined },
    foreignRegistriesD(read.map(({ file, text = '' }) => ({ file, text }))),
    OWNED_MARK,
  );
  const warnings = [
    ...read
      .filter(({ text }) => text === undefined)
      .map(({ file }) => `${file} of the override cannot be read: if it has the key of a mirror, every pull on these nodes fails`),
    ...(own.kind === 'refused'
      ? [`nodes will not look for signatures at these mirrors, because ${REGISTRIES_D_PATH} cannot be added: ${own.reason}`]
      : []),
  ];
  return { files: own.kind === 'write' ? [ownFile(REGISTRIES_D_PATH, ofIgnition(own.content))] : [], warnings };
}

/** The text of a file in the override; undefined if it comes from elsewhere or is compressed. Without contents, the file is empty. */
function textOf(contents: IgnitionResource | undefined): string | undefined {
  if (contents?.source === undefined || contents.source === null) return '';
  if (contents.compression !== undefined && contents.compression !== null && contents.compression !== '') return undefined;
  const decoded = decodeDataUrl(contents.source);
  return decoded.kind === 'bytes' ? Buffer.from(decoded.bytes).toString('utf8') : undefined;
}
