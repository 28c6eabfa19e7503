import * as v from 'valibot';
import type { ContainerRecord } from './records.ts';

/** A pod of CRI-O. */
export interface Pod {
  /** By which crictl(1) knows it. */
  readonly id: string;
  /** `namespace/name`. */
  readonly name: string;
}

/**
 * What CRI-O keeps in the `metadata` of each of its containers, as far as it matters here. Other engines write other things there, or nothing.
 * Source: github.com/cri-o/cri-o, internal/storage/runtime.go, RuntimeContainerMetadata.
 */
const metadataSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    'pod-name': v.pipe(v.string(), v.nonEmpty()),
    'pod-id': v.pipe(v.string(), v.nonEmpty()),
    'metadata-name': v.optional(v.string(), 'a container'),
    pod: v.optional(v.boolean(), false),
  }),
);

/** The pod that a container belongs to; undefined for one that CRI-O did not make. Pure. */
export function podOf(container: Pick<ContainerRecord, 'metadata'>): Pod | undefined {
  const metadata = metadataOf(container);
  return metadata === undefined ? undefined : { id: metadata['pod-id'], name: podName(metadata['pod-name']) };
}

/** What people call a container. Pure. */
export function containerTitle(container: ContainerRecord): string {
  const metadata = metadataOf(container);
  if (metadata === undefined) return container.names?.[0] ?? container.id;
  const pod = podName(metadata['pod-name']);
  return metadata.pod ? `the sandbox of pod ${pod}` : `${metadata['metadata-name']} of pod ${pod}`;
}

function metadataOf({ metadata }: Pick<ContainerRecord, 'metadata'>): v.InferOutput<typeof metadataSchema> | undefined {
  const parsed = v.safeParse(metadataSchema, metadata);
  return parsed.success ? parsed.output : undefined;
}

/** CRI-O makes it of parts that have no `_` themselves: `k8s_NAME_NAMESPACE_UID_ATTEMPT`. Source: cri-o, internal/lib/sandbox/builder.go. */
function podName(full: string): string {
  return full.replace(/^k8s_([^_]+)_([^_]+)_[^_]+_[^_]+$/, '$2/$1');
}
