import type { Digest } from '../model/digest.ts';
import type { ErrorRecord } from '../model/errors.ts';
import type { Descriptor } from '../model/manifest.ts';
import { indexOf } from '../storage/image-index.ts';
import { isPresent } from '../storage/is-present.ts';
import type { StorageContents, StoredImage } from '../storage/records.ts';

/** An image of the bundle as far as it is known before loading. Sizes are bytes. */
export interface KnownImage {
  /** The reference as the list has it; names the image in state and messages. */
  readonly reference: string;
  /** Full references that must resolve afterwards. */
  readonly names: readonly string[];
  /** Digests by which storage may know it: the manifest's, or the list's that it is picked from. */
  readonly digests: readonly Digest[];
  /** Layers, lowest first; empty if the image is present and was not opened. */
  readonly layers: readonly Descriptor[];
  /** How much must be read to load it. */
  readonly archiveBytes: number;
  /** How much its layers grow when they are unpacked; undefined if only an estimate is known. */
  readonly growth: number | undefined;
}

/** An image that cannot be loaded, known before the run starts. */
export interface RefusedImage {
  readonly reference: string;
  readonly error: ErrorRecord;
}

export interface PlanFacts {
  readonly images: readonly KnownImage[];
  readonly refused: readonly RefusedImage[];
  readonly storage: StorageContents;
  /** References whose loading was not known to be on the disk when the machine went down. */
  readonly suspect: ReadonlySet<string>;
}

export interface KeepStep {
  readonly kind: 'keep';
  readonly image: KnownImage;
}

export interface LoadStep {
  readonly kind: 'load';
  readonly image: KnownImage;
  /** Layers that this image brings in; the others are present, or come with an image that it waits for. */
  readonly writes: readonly Descriptor[];
  readonly writeBytes: number;
  /** References of the images that load shared layers first. */
  readonly after: readonly string[];
  /** Records to remove first, with the reason. */
  readonly replaces: readonly { readonly image: StoredImage; readonly reason: string }[];
}

export interface RefuseStep {
  readonly kind: 'refuse';
  readonly image: RefusedImage;
}

export type PlanStep = KeepStep | LoadStep | RefuseStep;

/**
 * Decides, image by image, what a run must do. Pure: the same facts give the same steps.
 * Loads come in the order in which they are to be started: images that bring layers which others share first, then the biggest work.
 */
export function planSteps(facts: PlanFacts): readonly PlanStep[] {
  const keeps: KeepStep[] = [];
  const todo: { image: KnownImage; replaces: LoadStep['replaces'] }[] = [];
  for (const image of facts.images) {
    const replaces = unusable(image, facts);
    if (replaces.length === 0 && isPresent(image, facts.storage)) keeps.push({ kind: 'keep', image });
    else todo.push({ image, replaces });
  }
  const present = layersAfterRemoval(
    facts.storage,
    todo.filter((entry) => entry.replaces.length > 0).map((entry) => entry.image),
  );
  const refuses = facts.refused.map((image): RefuseStep => ({ kind: 'refuse', image }));
  return [...keeps, ...orderLoads(todo, present), ...refuses];
}

/**
 * The steps after a leader has failed: the first image that waited for it takes over its layers, and the others wait for that one.
 */
export function promoteAfterFailure(waiting: readonly LoadStep[], failed: LoadStep): readonly LoadStep[] {
  const heir = waiting.find((step) => step.after.includes(failed.image.reference));
  if (heir === undefined) return waiting;
  return waiting.map((step) => {
    if (!step.after.includes(failed.image.reference)) return step;
    const rest = step.after.filter((reference) => reference !== failed.image.reference);
    const ownLayers = new Set(step.image.layers.map((layer) => layer.digest));
    const inherited = failed.writes.filter((layer) => ownLayers.has(layer.digest));
    if (step === heir) return withWrites({ ...step, after: rest }, [...inherited, ...step.writes]);
    const heirLayers = new Set(heir.image.layers.map((layer) => layer.digest));
    const own = inherited.filter((layer) => !heirLayers.has(layer.digest));
    return withWrites({ ...step, after: [...rest, heir.image.reference] }, [...own, ...step.writes]);
  });
}

function withWrites(step: LoadStep, writes: readonly Descriptor[]): LoadStep {
  return { ...step, writes, writeBytes: sumBytes(writes) };
}

/** The image's own records that must be removed before it is loaded again. A record without a name is from a load that was interrupted before it set one. */
function unusable(image: KnownImage, facts: PlanFacts): LoadStep['replaces'] {
  const { byDigest } = indexOf(facts.storage.images);
  const ofDigests = new Set(image.digests.flatMap((digest) => byDigest.get(digest) ?? []));
  const own = [...ofDigests].filter(({ names }) => names.length === 0 || names.some((name) => image.names.includes(name)));
  return own.flatMap((stored) => {
    if (stored.damage.length > 0) return [{ image: stored, reason: stored.damage.join('; ') }];
    if (facts.suspect.has(image.reference))
      return [{ image: stored, reason: 'the machine went down before its files were known to be on the disk' }];
    return [];
  });
}

/** The layers that storage keeps when records are removed: layers of replaced images count as missing, since they are removed with them. */
function layersAfterRemoval(storage: StorageContents, replaced: readonly KnownImage[]): ReadonlySet<Digest> {
  const gone = new Set(replaced.flatMap((image) => image.layers).map((layer) => layer.digest));
  return new Set([...storage.layers].filter((digest) => !gone.has(digest)));
}

/** An image to load, with the layers that storage lacks, each once. */
interface Entry {
  readonly image: KnownImage;
  readonly replaces: LoadStep['replaces'];
  readonly missing: readonly Descriptor[];
  /** Benefit of loading it first: bytes that other images need too, counted once for each of them, per byte of this image. */
  readonly gain: number;
  /** Bytes that no other image needs. */
  readonly ownBytes: number;
}

function orderLoads(todo: readonly Pick<Entry, 'image' | 'replaces'>[], present: ReadonlySet<Digest>): readonly LoadStep[] {
  const leaderOf = new Map<Digest, string>();
  const steps = rank(todo, present).map(({ image, replaces, missing }): LoadStep => {
    const writes = missing.filter((layer) => !leaderOf.has(layer.digest));
    const after = new Set(missing.flatMap((layer) => leaderOf.get(layer.digest) ?? []));
    for (const layer of writes) leaderOf.set(layer.digest, image.reference);
    return { kind: 'load', image, writes, writeBytes: sumBytes(writes), after: [...after], replaces };
  });
  const leaders = new Set(steps.flatMap((step) => step.after));
  const isLeader = (step: LoadStep): boolean => leaders.has(step.image.reference);
  return [
    ...steps.filter(isLeader),
    ...steps
      .filter((step) => !isLeader(step))
      .toSorted((a, b) => b.writeBytes - a.writeBytes || b.image.archiveBytes - a.image.archiveBytes),
  ];
}

/** Puts first the images that bring what most others wait for in the least time: while a base is copied alone, a core is idle. */
function rank(todo: readonly Pick<Entry, 'image' | 'replaces'>[], present: ReadonlySet<Digest>): readonly Entry[] {
  const lacking = todo.map((entry) => ({ ...entry, missing: missingLayers(entry.image, present) }));
  const needs = new Map<Digest, number>();
  const needsOf = ({ digest }: Descriptor): number => needs.get(digest) ?? 0;
  for (const layer of lacking.flatMap(({ missing }) => missing)) needs.set(layer.digest, needsOf(layer) + 1);
  const others = (layer: Descriptor): number => needsOf(layer) - 1;
  const entries = lacking.map(
    (entry): Entry => ({
      ...entry,
      gain: entry.missing.reduce((sum, layer) => sum + layer.sizeBytes * others(layer), 0) / Math.max(1, sumBytes(entry.missing)),
      ownBytes: sumBytes(entry.missing.filter((layer) => others(layer) === 0)),
    }),
  );
  return entries.toSorted((a, b) => b.gain - a.gain || a.ownBytes - b.ownBytes || a.image.reference.localeCompare(b.image.reference));
}

function missingLayers(image: KnownImage, present: ReadonlySet<Digest>): readonly Descriptor[] {
  const unique = new Map(image.layers.map((layer) => [layer.digest, layer]));
  return [...unique.values()].filter((layer) => !present.has(layer.digest));
}

function sumBytes(layers: readonly Descriptor[]): number {
  return layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
}
