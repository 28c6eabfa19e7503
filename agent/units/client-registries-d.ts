import { ofIgnition } from '../engine/registries-drop-in.ts';
import { decodeDataUrl } from '../model/data-url.ts';
import { foreignRegistriesD, planRegistriesD, REGISTRIES_D_DIRECTORY, REGISTRIES_D_PATH } from '../signatures/own-registries-d.ts';
import { OWNED_MARK } from '../system-files/file.ts';
import type { IgnitionConfig, IgnitionResource } from './config.ts';
import { type IgnitionFile, ownFile } from './own-file.ts';

/** The file that leads the engines of clients to signatures. */
export interface ClientRegistriesD {
  readonly files: readonly IgnitionFile[];
  readonly warnings: readonly string[];
}

/**
 * Plans the file of registries.d for nodes that pull from others: a key for each mirror, but none that another file of the override has, as two
 * files with one key make every pull fail. Pure.
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
      .map(({ file }) => `${file} of the override could not be looked at: if it has the key of a mirror, nodes with it pull nothing`),
    ...(own.kind === 'refused'
      ? [`nodes do not look for signatures at these mirrors, as ${REGISTRIES_D_PATH} cannot be added: ${own.reason}`]
      : []),
  ];
  return { files: own.kind === 'write' ? [ownFile(REGISTRIES_D_PATH, ofIgnition(own.content))] : [], warnings };
}

/** The text that an override brings itself; undefined if it comes from elsewhere or is compressed. No contents make an empty file. */
function textOf(contents: IgnitionResource | undefined): string | undefined {
  if (contents?.source === undefined || contents.source === null) return '';
  if (contents.compression !== undefined && contents.compression !== null && contents.compression !== '') return undefined;
  const decoded = decodeDataUrl(contents.source);
  return decoded.kind === 'bytes' ? Buffer.from(decoded.bytes).toString('utf8') : undefined;
}
