import * as v from 'valibot';
import type { ContainerRecord } from './records.ts';

/** A pod of CRI-O. */
export interface Pod {
  /** Id for crictl(1). */
  readonly id: string;
  /** `namespace/name`. */
  readonly name: string;
}

/**
 * The part needed here of the `metadata` that CRI-O stores for each of its containers. Other engines store something else there, or nothing.
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

/** The pod that a container belongs to; undefined if CRI-O did not create the container. Pure. */
export function podOf(container: Pick<ContainerRecord, 'metadata'>): Pod | undefined {
  const metadata = metadataOf(container);
  return metadata === undefined ? undefined : { id: metadata['pod-id'], name: podName(metadata['pod-name']) };
}

/** Name of a container for people. Pure. */
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

/** CRI-O joins parts that contain no `_`: `k8s_NAME_NAMESPACE_UID_ATTEMPT`. Source: cri-o, internal/lib/sandbox/builder.go. */
function podName(full: string): string {
  return full.replace(/^k8s_([^_]+)_([^_]+)_[^_]+_[^_]+$/, '$2/$1');
}
