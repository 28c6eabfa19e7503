import * as v from 'valibot';
import { PrestageError } from '../../model/errors.ts';
import { listFaults, quoteInput, schemaFaults } from '../../model/faults.ts';
import { readReference } from '../../model/reference.ts';
import { visible } from '../../model/visible.ts';
import type { NamedImage } from './classification.ts';

/** Where a release image keeps its list of components. Source: docs/field-facts.md, "Release image". */
export const IMAGE_REFERENCES = 'release-manifests/image-references';

/** Other kinds, such as ImageStreamTag, do not name an image that can be pulled. Source: openshift/api, image/v1, TagReference. */
const fromSchema = v.object({ kind: v.literal('DockerImage'), name: v.string() });
const streamSchema = v.object({
  kind: v.literal('ImageStream'),
  metadata: v.optional(v.object({ name: v.optional(v.string(), '') }), { name: '' }),
  spec: v.object({ tags: v.array(v.object({ name: v.string(), from: v.optional(v.unknown()) })) }),
});

export interface ReleaseContents {
  /** Version, such as 4.14.0; empty if the release does not state it. */
  readonly version: string;
  /** Components in the order of the document. */
  readonly images: readonly NamedImage[];
  /** Components that do not name an image that can be pulled. An error only if one of them is wanted. */
  readonly broken: readonly BrokenComponent[];
}

export interface BrokenComponent {
  /** Its place in the document: `spec.tags.3 ("etcd")`. */
  readonly place: string;
  readonly component: string;
  readonly fault: string;
}

/**
 * Reads a release's image-references, an ImageStream in JSON.
 * @throws PrestageError ERR_RELEASE if it is not one; faults of single components are in the result
 */
export function parseImageReferences(text: string, where: string): ReleaseContents {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), streamSchema), text);
  if (!parsed.success) throw unreadable(where, schemaFaults(parsed.issues));
  const { metadata, spec } = parsed.output;
  const images: NamedImage[] = [];
  const broken: BrokenComponent[] = [];
  for (const [index, { name, from }] of spec.tags.entries()) {
    const place = `spec.tags.${index} (${quoteInput(name)})`;
    const source = v.safeParse(fromSchema, from);
    const read = source.success ? readReference(source.output.name) : undefined;
    const got = from === undefined ? 'missing' : visible(JSON.stringify(from).slice(0, 160));
    if (!source.success) broken.push({ place, component: name, fault: `from is ${got}, not a DockerImage with a name` });
    else if (typeof read === 'string') broken.push({ place, component: name, fault: read });
    else images.push({ reference: source.output.name, component: name });
  }
  return { version: metadata.name, images, broken };
}

/** The error for wanted components that do not name an image. Pure. */
export function brokenComponents(where: string, broken: readonly BrokenComponent[]): PrestageError {
  const { message } = unreadable(
    where,
    broken.map(({ place, fault }) => `${place}: ${fault}`),
  );
  return new PrestageError('ERR_RELEASE', message, 'Use a release as it was published, or leave the components out with --exclude NAME');
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_RELEASE',
    listFaults(
      `${where} is not a valid list of release components`,
      faults.map((fault) => `${where} is not a valid list of release components: ${fault}`),
    ),
    'Name a release image, such as quay.io/openshift-release-dev/ocp-release:VERSION-x86_64',
  );
}
