import * as v from 'valibot';
import { runPhases, timelineSchema } from './run-timeline.ts';
import { digestSchema, errorRecordSchema } from './schemas.ts';
import { STAGES } from './stage.ts';
import { PLACEMENTS, TRUSTS, VERIFIED } from './store.ts';

/**
 * The record of a run, for `status`, for the next run and for support. It is written to /run/prestage-agent/state.json during the run (at
 * most once a second) and durably to /var/lib/prestage-agent/state.json at its start and its end.
 * Sizes are in bytes, durations in milliseconds, times in ISO 8601 by the machine's clock, which can be wrong at boot.
 */
export const STATE_VERSION = 'prestage-agent/v1';

/**
 * `pending` and `loading` occur only during a run. `present`: was already in storage or in a mounted store. `served`: the registry of this
 * node serves the image, storage does not have it. `missing`: has disappeared since.
 */
const imageStates = ['pending', 'loading', 'present', 'loaded', 'served', 'skipped', 'failed', 'missing'] as const;

export const runOutcomes = ['complete', 'partial', 'failed', 'interrupted'] as const;

const imageSchema = v.object({
  reference: v.string(),
  names: v.array(v.string()),
  /** Digests under which storage may have it. */
  digests: v.array(digestSchema),
  state: v.picklist(imageStates),
  /** Its names in the releases of the bundle, such as `etcd`; left out if the bundle does not know any. */
  components: v.optional(v.array(v.string())),
  /** Manifests that the list of the image names but that were not pulled; left out if there are none, or if that is not known. */
  absent: v.optional(v.array(v.object({ digest: digestSchema, platform: v.string() }))),
  /** Why it is in that state; always set for `skipped` and `failed`. */
  reason: v.optional(v.string()),
  error: v.optional(errorRecordSchema),
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
  /** Identifies the process together with the pid (proc_pid_stat(5), field 22). */
  processStartTicks: v.number(),
  startedAt: v.string(),
  finishedAt: v.optional(v.string()),
  durationMs: v.optional(v.number()),
  timeline: v.optional(timelineSchema),
  stage: v.picklist(STAGES),
  policy: v.picklist(['open', 'closed']),
  phase: v.picklist(runPhases),
  outcome: v.optional(v.picklist(runOutcomes)),
  error: v.optional(errorRecordSchema),
  source: v.optional(
    v.object({
      /** `disk`: the copy of an earlier run, because the partition is gone. */
      kind: v.picklist(['partition', 'directory', 'disk']),
      label: v.optional(v.string()),
      device: v.optional(v.string()),
      fileSystem: v.optional(v.string()),
      path: v.optional(v.string()),
    }),
  ),
  payload: v.optional(v.string()),
  /** Architecture in prestage.json, as GOARCH names it; left out if it is not known. */
  architecture: v.optional(v.string()),
  delivery: v.optional(v.object({ kind: v.string(), reason: v.string() })),
  /** The store image that is mounted as an additional image store. */
  store: v.optional(
    v.object({
      path: v.string(),
      image: v.string(),
      sha256: v.string(),
      trust: v.picklist(TRUSTS),
      trustReason: v.string(),
      placement: v.picklist(PLACEMENTS),
      /** Whether the bytes were checked: by the kernel during reads, before the mount, not yet, or after the mount. */
      verified: v.picklist(VERIFIED),
    }),
  ),
  /** The registry that serves the images of the bundle. */
  registry: v.optional(
    v.object({
      address: v.string(),
      how: v.string(),
      tree: v.string(),
      image: v.string(),
      /** The directory of the bundle that is the target of links in the tree; set only if there are such links. */
      blobs: v.optional(v.string()),
    }),
  ),
  /** The state of the operating system images of the bundle; set only if a store image is mounted on an installed node. */
  osImage: v.optional(
    v.object({
      references: v.array(v.string()),
      /** Served completely; only in the store; already booted; not available; or not in the bundle. */
      state: v.picklist(['served', 'stored', 'booted', 'failed', 'absent']),
      reason: v.string(),
    }),
  ),
  /** Why some or all repositories got no mirror of ours: engines would refuse the images that it serves. */
  withheld: v.optional(errorRecordSchema),
  /** The node had no signature policy, and without one engines pull nothing. */
  missingPolicy: v.optional(errorRecordSchema),
  /** When `release` undid the setup of this run. */
  releasedAt: v.optional(v.string()),
  /** The changes that make engines work without the bundle; set only after healing. */
  healed: v.optional(v.array(v.string())),
  storage: v.optional(v.object({ graphroot: v.string(), runroot: v.string() })),
  parallel: v.optional(v.number()),
  bytes: v.object({ total: v.number(), done: v.number() }),
  notices: v.array(v.string()),
  images: v.array(imageSchema),
  /** References that this boot loads, whose files may not be on the disk yet. */
  unsynced: v.array(v.string()),
  /** References that an earlier boot did not sync: storage may list them although their files are truncated. */
  suspect: v.array(v.string()),
});

/** The current record of a run. */
export type RunState = v.InferOutput<typeof stateSchema>;
export type ImageState = v.InferOutput<typeof imageSchema>;
export type RunOutcome = (typeof runOutcomes)[number];

/** The state in a state file, or undefined if the text is not one (truncated, damaged, or of another version). */
export function parseRunState(text: string): RunState | undefined {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson()), text);
  return parsed.success ? runStateOf(parsed.output) : undefined;
}

/** A record as a state, or undefined if it is not a state of this version. */
export function runStateOf(record: unknown): RunState | undefined {
  const parsed = v.safeParse(stateSchema, record);
  return parsed.success ? parsed.output : undefined;
}

/**
 * The references that an earlier boot loaded without recording their sync: a power cut may have truncated their files.
 */
export function suspectAfter(earlier: RunState | undefined, bootId: string): readonly string[] {
  if (earlier === undefined) return [];
  return [...new Set([...earlier.suspect, ...(earlier.bootId === bootId ? [] : earlier.unsynced)])];
}

/** The outcome of a run, by its images. A run that had nothing to do is complete. */
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
