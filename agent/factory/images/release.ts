import * as v from 'valibot';
import { PrestageError } from '../../model/errors.ts';
import { listFaults, schemaFaults } from '../../model/faults.ts';
import { readReference } from '../../model/reference.ts';
import type { NamedImage } from './classification.ts';

/** Where a release image keeps its list of components. Source: field facts, "Release image". */
export const IMAGE_REFERENCES = 'release-manifests/image-references';

const streamSchema = v.object({
  kind: v.literal('ImageStream'),
  metadata: v.optional(v.object({ name: v.optional(v.string(), '') }), { name: '' }),
  spec: v.object({ tags: v.array(v.object({ name: v.string(), from: v.object({ kind: v.string(), name: v.string() }) })) }),
});

export interface ReleaseContents {
  /** Version, such as 4.14.0; empty where the release does not say. */
  readonly version: string;
  /** Components in the order of the document. */
  readonly images: readonly NamedImage[];
}

/**
 * Reads a release's image-references, an ImageStream in JSON.
 * @throws PrestageError ERR_RELEASE with every fault
 */
export function parseImageReferences(text: string, where: string): ReleaseContents {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), streamSchema), text);
  if (!parsed.success) throw unreadable(where, schemaFaults(parsed.issues));
  const { metadata, spec } = parsed.output;
  const images = spec.tags.map((tag) => ({ reference: tag.from.name, component: tag.name }));
  const faults = images.flatMap(({ reference, component }) => {
    const read = readReference(reference);
    return typeof read === 'string' ? [`${component}: "${reference}" is not an image reference: ${read}`] : [];
  });
  if (faults.length > 0) throw unreadable(where, faults);
  return { version: metadata.name, images };
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_RELEASE',
    listFaults(
      `${where} cannot be read as the components of a release`,
      faults.map((fault) => `${where} cannot be read as the components of a release: ${fault}`),
    ),
    'Name a release image, such as quay.io/openshift-release-dev/ocp-release:VERSION-x86_64',
  );
}
