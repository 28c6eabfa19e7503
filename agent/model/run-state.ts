import * as v from 'valibot';
import { type Digest, isDigest } from './digest.ts';
import { type ErrorCode, isErrorCode } from './errors.ts';
import { runPhases, timelineSchema } from './run-timeline.ts';

/**
 * What a run records of itself, for `status`, for the next run and for support. Written to /run/prestage-agent/state.json while the run
 * goes on (at most once a second) and to /var/lib/prestage-agent/state.json, durably, at its start and its end.
 * Sizes are bytes, durations milliseconds, times ISO 8601 by the machine's clock, which can be wrong at boot.
 */
export const STATE_VERSION = 'prestage-agent/v1';

const errorSchema = v.object({
  code: v.custom<ErrorCode>(isErrorCode, 'is not an error code of this version'),
  message: v.string(),
  remedy: v.string(),
});

/**
 * `pending` and `loading` while the run goes on; `present` is in storage, or in a mounted store, and was there already; `served` is answered
 * by the registry of this node and not in storage; `missing` has vanished since.
 */
const imageStates = ['pending', 'loading', 'present', 'loaded', 'served', 'skipped', 'failed', 'missing'] as const;

export const runOutcomes = ['complete', 'partial', 'failed', 'interrupted'] as const;

const imageSchema = v.object({
  reference: v.string(),
  names: v.array(v.string()),
  /** Digests by which storage may know it. */
  digests: v.array(v.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'is not a sha256 digest')),
  state: v.picklist(imageStates),
  /** What the list of the image names and nobody brought; left out if that is nothing, or not known. */
  absent: v.optional(
    v.array(v.object({ digest: v.custom<Digest>((value) => typeof value === 'string' && isDigest(value)), platform: v.string() })),
  ),
  /** Why it is in that state; always there for `skipped` and `failed`. */
  reason: v.optional(v.string()),
  error: v.optional(errorSchema),
  archiveBytes: v.optional(v.number()),
  attempts: v.optional(v.number()),
  durationMs: v.optional(v.number()),
});

const stateSchema = v.object({
  apiVersion: v.literal(STATE_VERSION),
  kind: v.literal('RunState'),
  agentVersion: v.string(),
  bootId: v.string(),
  /** The directory that stood for `/`; left out if it was `/` itself. */
  root: v.optional(v.string()),
  pid: v.number(),
  /** With the pid, names the process (proc_pid_stat(5), field 22). */
  processStartTicks: v.number(),
  startedAt: v.string(),
  finishedAt: v.optional(v.string()),
  durationMs: v.optional(v.number()),
  timeline: v.optional(timelineSchema),
  stage: v.picklist(['discovery', 'installed']),
  policy: v.picklist(['open', 'closed']),
  phase: v.picklist(runPhases),
  outcome: v.optional(v.picklist(runOutcomes)),
  error: v.optional(errorSchema),
  source: v.optional(
    v.object({
      /** `disk`: what an earlier run has kept of the bundle, because the partition is gone. */
      kind: v.picklist(['partition', 'directory', 'disk']),
      label: v.optional(v.string()),
      device: v.optional(v.string()),
      fileSystem: v.optional(v.string()),
      path: v.optional(v.string()),
    }),
  ),
  payload: v.optional(v.string()),
  /** Of the bundle, by its prestage.json, as GOARCH names it; left out where nothing says it. */
  architecture: v.optional(v.string()),
  delivery: v.optional(v.object({ kind: v.string(), reason: v.string() })),
  /** The store image that is mounted as an additional image store. */
  store: v.optional(
    v.object({
      path: v.string(),
      image: v.string(),
      sha256: v.string(),
      trust: v.picklist(['verity', 'hash', 'background']),
      trustReason: v.string(),
      placement: v.picklist(['ram', 'partition', 'disk']),
      /** Whether the bytes are known to be right: by the kernel as it reads, before the mount, not yet, or after all. */
      verified: v.picklist(['kernel', 'before-mount', 'pending', 'yes']),
    }),
  ),
  /** The registry that answers for the images of the bundle. */
  registry: v.optional(
    v.object({
      address: v.string(),
      how: v.string(),
      tree: v.string(),
      image: v.string(),
      /** The directory of the bundle that links in the tree lead into; there only if there are some. */
      blobs: v.optional(v.string()),
    }),
  ),
  /** What became of the operating systems of the bundle; there only if a store image is mounted on an installed node. */
  osImage: v.optional(
    v.object({
      references: v.array(v.string()),
      /** Served whole; in the store only; already booted; not to be had; or the bundle has none. */
      state: v.picklist(['served', 'stored', 'booted', 'failed', 'absent']),
      reason: v.string(),
    }),
  ),
  /** Why mirrors of ours were kept back from some repositories, or from all: engines would refuse what they show. */
  withheld: v.optional(errorSchema),
  /** The node had no signature policy, without which engines pull nothing. */
  missingPolicy: v.optional(errorSchema),
  /** When `release` took back what this run had set up. */
  releasedAt: v.optional(v.string()),
  /** What was done so that engines work without what the bundle could not give; there only after healing. */
  healed: v.optional(v.array(v.string())),
  storage: v.optional(v.object({ graphroot: v.string(), runroot: v.string() })),
  parallel: v.optional(v.number()),
  bytes: v.object({ total: v.number(), done: v.number() }),
  notices: v.array(v.string()),
  images: v.array(imageSchema),
  /** References that this boot loads and whose files are not known to be on the disk yet. */
  unsynced: v.array(v.string()),
  /** References that an earlier boot left unsynced: storage may list them with files cut short. */
  suspect: v.array(v.string()),
});

/** One run, as it stands. */
export type RunState = v.InferOutput<typeof stateSchema>;
export type ImageState = v.InferOutput<typeof imageSchema>;
export type RunOutcome = (typeof runOutcomes)[number];

/** The state in a state file, or undefined where the text is none (cut off, damaged, or of another version). */
export function parseRunState(text: string): RunState | undefined {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson()), text);
  return parsed.success ? runStateOf(parsed.output) : undefined;
}

/** The state that a record is, or undefined where it is none of this version. */
export function runStateOf(record: unknown): RunState | undefined {
  const parsed = v.safeParse(stateSchema, record);
  return parsed.success ? parsed.output : undefined;
}

/**
 * The references that an earlier boot loaded without coming to record their sync: a power cut may have cut their files short.
 */
export function suspectAfter(earlier: RunState | undefined, bootId: string): readonly string[] {
  if (earlier === undefined) return [];
  return [...new Set([...earlier.suspect, ...(earlier.bootId === bootId ? [] : earlier.unsynced)])];
}

/** How a run ended, by its images. A run that had nothing to do is complete. */
export function outcomeOf(images: readonly Pick<ImageState, 'state'>[]): Exclude<RunOutcome, 'interrupted'> {
  const good = images.filter(isUsable).length;
  if (good === images.length) return 'complete';
  return good === 0 ? 'failed' : 'partial';
}

/** Whether the engine can use the image. */
export function isUsable(image: Pick<ImageState, 'state'>): boolean {
  return isInStorage(image) || image.state === 'served';
}

/** Whether storage itself has the image. */
export function isInStorage(image: Pick<ImageState, 'state'>): boolean {
  return image.state === 'present' || image.state === 'loaded';
}

/** Images by state, for summaries. */
export function countStates(images: readonly Pick<ImageState, 'state'>[]): Readonly<Record<ImageState['state'], number>> {
  const counts = { pending: 0, loading: 0, present: 0, loaded: 0, served: 0, skipped: 0, failed: 0, missing: 0 };
  for (const image of images) counts[image.state] += 1;
  return counts;
}
