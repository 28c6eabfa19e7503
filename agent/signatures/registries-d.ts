import * as v from 'valibot';
import { parse } from 'yaml';
import { messageOf, PrestageError } from '../model/errors.ts';
import { listFaults, schemaFaults } from '../model/faults.ts';
import { repositoryOf } from './policy.ts';

/**
 * Where engines look for the signatures of the images that they pull. Source for this file: containers-registries.d(5) and containers/image,
 * docker/registries_d.go.
 */
export interface SignatureSource {
  /** Base address of GPG signatures, `https://…` or `file:///…`; undefined if none is named. */
  readonly lookaside: string | undefined;
  /** Whether engines read signatures stored beside the image. */
  readonly usesAttachments: boolean;
}

/** All files of a machine, merged. */
export interface RegistriesD {
  /** By scope: an image, repository, namespace or host; with the file that contains it. */
  readonly scopes: ReadonlyMap<string, SignatureSource & { readonly file: string }>;
  /** Applies if no scope matches. */
  readonly fallback: (SignatureSource & { readonly file: string }) | undefined;
}

const namespace = v.object({
  lookaside: v.nullish(v.string()),
  /** The older name of `lookaside`. */
  sigstore: v.nullish(v.string()),
  'use-sigstore-attachments': v.nullish(v.boolean()),
});
const fileSchema = v.nullable(
  v.object({ 'default-docker': v.nullish(namespace), docker: v.nullish(v.record(v.string(), v.nullable(namespace))) }),
);

/**
 * Merges the files of registries.d. Engines refuse every pull if two files have the same key, so that is an error here.
 * @throws PrestageError ERR_REGISTRIES_D with every fault and its file
 */
export function mergeRegistriesD(files: readonly { readonly file: string; readonly text: string }[]): RegistriesD {
  const scopes = new Map<string, SignatureSource & { readonly file: string }>();
  const faults: string[] = [];
  let fallback: RegistriesD['fallback'];
  for (const { file, text } of files) {
    const parsed = v.safeParse(fileSchema, yamlOf(text, file, faults));
    if (!parsed.success) {
      faults.push(...schemaFaults(parsed.issues).map((fault) => `${file}: ${fault}`));
      continue;
    }
    const standard = parsed.output?.['default-docker'];
    if (standard && fallback !== undefined) faults.push(`${fallback.file} and ${file} both have default-docker`);
    else if (standard) fallback = { ...sourceOf(standard), file };
    for (const [scope, found] of Object.entries(parsed.output?.docker ?? {})) {
      const other = scopes.get(scope);
      if (other !== undefined) faults.push(`${other.file} and ${file} both have the key "${scope}"`);
      else scopes.set(scope, { ...sourceOf(found ?? {}), file });
    }
  }
  if (faults.length === 0) return { scopes, fallback };
  throw new PrestageError(
    'ERR_REGISTRIES_D',
    listFaults('the files of registries.d cannot be used', faults),
    'Correct the files; until then every pull on this machine fails. See containers-registries.d(5)',
  );
}

/**
 * Where an engine looks for the signatures of an image. Only the most specific scope counts.
 * @param place the image at the registry that is asked; for a mirror that is its name there, such as `127.0.0.1:…/quay.io/a/b@sha256:…`
 */
export function signatureSourceOf({ scopes, fallback }: RegistriesD, place: string): SignatureSource {
  const parts = repositoryOf(place).split('/');
  const candidates = [place, ...parts.map((_, index) => parts.slice(0, parts.length - index).join('/'))];
  const scope = candidates.find((candidate) => scopes.has(candidate));
  return (scope === undefined ? fallback : scopes.get(scope)) ?? { lookaside: undefined, usesAttachments: false };
}

function sourceOf({ lookaside, sigstore, 'use-sigstore-attachments': attachments }: v.InferOutput<typeof namespace>): SignatureSource {
  return { lookaside: lookaside ?? sigstore ?? undefined, usesAttachments: attachments ?? false };
}

function yamlOf(text: string, file: string, faults: string[]): unknown {
  try {
    return parse(text);
  } catch (error) {
    faults.push(`${file}: ${messageOf(error).split('\n')[0]}`);
    return null;
  }
}
