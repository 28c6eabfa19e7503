import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { version } from '../../assets.ts';
import { type ArchivePool, createArchivePool } from '../../extract/pool.ts';
import type { Act } from '../../host/acts.ts';
import { checkWorkplace } from '../../host/chain.ts';
import type { Host } from '../../host/host.ts';
import { holdingShared, waitForShared } from '../../host/lock.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { syncFileSystem } from '../../host/sync.ts';
import type { Bundle } from '../../model/bundle.ts';
import { squashfsObstacle } from '../../model/release.ts';
import { unsignedError, unsignedImages } from './demanded-signatures.ts';
import { describeBundle } from './describe-bundle.ts';
import { releaseOf } from './describe-images.ts';
import { gatherFacts, knownSizes, type Outline, stateOf } from './facts.ts';
import { archiveBytes, archivesOf, digestFinder, importArchives } from './import-archives.ts';
import type { BuildInput } from './input.ts';
import { layerWarnings } from './layer-limits.ts';
import type { MakeContext } from './make-context.ts';
import { makePart } from './make-part.ts';
import { reclaimWork, removeUnpacked, unpackImages } from './make-store.ts';
import { type BuildFolders, type BuildOptions, type BuildReport, foldersOf } from './options.ts';
import { checkSpace, onOneFileSystem, removeStale } from './output-folder.ts';
import { type BuildFacts, keyOf, needsOf, type Part, planBuild } from './plan.ts';
import { BUILD_FOLDER, type BuildRecord, isUntouched, type RecordedFile, readRecord, writeRecord } from './record.ts';
import { hashPart, markPartial, seal } from './seal.ts';
import { siteReadme } from './site-readme.ts';
import { layersOf, unionOf } from './source-image.ts';
import { makingGroups } from './store-groups.ts';
import type { UnpackedStorage } from './store-normalise.ts';
import { countUnpacked } from './unpacked-sizes.ts';

/** The task of a build, as far as it is known before any image is read. */
export interface BuildJob {
  readonly options: BuildOptions;
  readonly input: BuildInput;
  readonly outline: Outline;
}

interface BuildContext extends BuildJob {
  readonly host: Host;
  readonly folders: BuildFolders;
  readonly pool: ArchivePool;
  readonly journal: Journal;
}

/** The record of a build, kept on the disk as it grows. */
interface Journal {
  readonly record: BuildRecord;
  /** Syncs the bundle, so that a power cut cannot take anything that is recorded, and writes the changed record. */
  commit(change: Partial<BuildRecord>): Promise<void>;
}

const README = 'README.txt';
/** How long to wait for a program that a killed build has left running, such as mksquashfs over a whole release. */
const WRITERS_WAIT_SECONDS = 600;

/** Decides which parts are unchanged. Reads only sizes and times. */
export async function decide(bundle: string, parts: readonly Part[], record: BuildRecord): Promise<BuildReport['parts']> {
  return await Promise.all(
    parts.map(async ({ id, key, outputBytes, workBytes }) => ({
      id,
      state: (await isUntouched(bundle, key, record.parts[id])) ? ('keep' as const) : ('make' as const),
      outputBytes,
      workBytes,
    })),
  );
}

/** Makes what has changed, and seals the bundle. The caller holds the lock. */
export async function runBuild(machine: Host, job: BuildJob): Promise<BuildReport> {
  const { options, input } = job;
  const folders = foldersOf(options, input.kind);
  const writersLock = join(folders.bundle, BUILD_FOLDER, 'writers.lock');
  await waitForShared(machine.exec, writersLock, WRITERS_WAIT_SECONDS);
  await checkWorkplace(folders.work);
  await reclaimWork(machine, folders.work);
  const host = holdingWriters(machine, writersLock);
  await using pool = createArchivePool({ size: options.jobs, log: host.log });
  const context: BuildContext = { ...job, host, folders, pool, journal: await openJournal(host, folders.bundle, options.act) };
  const { journal } = context;
  if (input.kind === 'archives') await importInput(context);
  const canLink = await onOneFileSystem(options.from, folders.bundle);
  const facts = await gatherFacts(input, job.outline, {
    ...options,
    layout: folders.layout,
    digestOf: digestFinder(journal.record),
    record: journal.record,
    canLink,
  });
  for (const text of facts.leftOut ?? [])
    if (!input.leftOut.includes(text)) host.log('notice', `${text} is left out: it is not a container image`);
  checkSignatures(host, facts, options);
  warnOfNodes(host, facts);
  const parts = planBuild(facts);
  const decided = await decide(folders.bundle, parts, journal.record);
  const missing = parts.filter((_, index) => decided[index]?.state === 'make');
  const groups = makingGroups(missing);
  await checkSpace(needsOf(groups, facts), folders.bundle, folders.work);
  await options.act('mark-bundle', async () => await markPartial(folders.bundle));
  const kept = parts.filter((part) => !missing.includes(part)).map(({ id }) => id);
  await journal.commit({ parts: Object.fromEntries(Object.entries(journal.record.parts).filter(([id]) => kept.includes(id))) });
  for (const group of groups) await makeGroup(group, facts, context);
  const manifest = await sealBundle(parts, facts, context);
  return { outcome: 'built', bundle: folders.bundle, parts: decided, ...choicesOf(facts), manifestSha256: manifest.sha256 };
}

/** The decisions in a report that depend on the release unless an option makes them. */
export function choicesOf({ osImages, compression, payloads }: BuildFacts): Pick<BuildReport, 'osImages' | 'compression'> {
  return { ...(osImages.references.length > 0 && { osImages }), ...(payloads.includes('store') && { compression }) };
}

/** @throws PrestageError ERR_BUILD_UNSIGNED */
function checkSignatures(host: Host, { stages }: BuildFacts, { requiresSignatures }: BuildOptions): void {
  const unsigned = unsignedImages(stages.flatMap(({ images }) => images));
  if (unsigned === undefined) return;
  const error = unsignedError(unsigned);
  if (requiresSignatures) throw error;
  host.log('warning', `${error.message}; their nodes pull these images from the source registry. ${error.remedy}`);
}

/** Warns of what nodes of the release cannot do with this bundle. */
function warnOfNodes(host: Host, { stages, compression: { algorithm }, payloads }: BuildFacts): void {
  const images = unionOf(stages.map((one) => one.images));
  const release = releaseOf(images);
  const hasStore = payloads.includes('store');
  for (const warning of layerWarnings(images, release, hasStore)) host.log('warning', warning);
  const obstacle = squashfsObstacle(release, algorithm);
  if (!hasStore || obstacle === undefined) return;
  host.log('warning', `the store images are ${obstacle}; such nodes use another payload of the bundle. Give --store-compression gzip`);
}

/** Programs hold a lock while they run, even if this process is killed before them: the next build waits for it. */
function holdingWriters(host: Host, writersLock: string): Host {
  const exec: Host['exec'] = async (file, args, options) => {
    const held = holdingShared(writersLock, file, args);
    return await host.exec(held.file, held.args, options);
  };
  return { ...host, exec };
}

/** The journal of earlier builds, without their seal: the bundle is about to change. */
async function openJournal(host: Host, bundle: string, act: Act): Promise<Journal> {
  const { sealed: _, ...rest } = await readRecord(bundle);
  let record: BuildRecord = rest;
  return {
    get record() {
      return record;
    },
    commit: async (change) => {
      record = { ...record, ...change };
      await act('record-build', async () => {
        await syncFileSystem(host.exec, bundle);
        await writeRecord(bundle, record);
      });
    },
  };
}

/** Unpacks the archives, unless that has been done for exactly these files. */
async function importInput({ options, input, folders, pool, journal }: BuildContext): Promise<void> {
  const archives = archivesOf(input);
  const { architecture, signal, say, act } = options;
  const key = keyOf(
    'import',
    architecture,
    archives.map((archive) => stateOf({ kind: 'archive', archive })),
  );
  if (journal.record.imported?.key === key) return;
  await checkSpace({ outputBytes: archiveBytes(input), workBytes: 0 }, folders.bundle, folders.bundle);
  const onImported = (done: number, of: number): void => say(`${done}/${of} archives read`);
  const importing = { pool, architecture, layout: folders.layout, signal, onImported };
  const { tops, others } = await act('import-archives', async () => await importArchives(archives, importing));
  await journal.commit({
    imported: { key, tops: Object.fromEntries(tops), ...(others.size > 0 && { others: Object.fromEntries(others) }) },
  });
}

/** Makes the parts of one group. Their storage is unpacked before the first of them, and removed after the last. */
async function makeGroup(group: readonly Part[], facts: BuildFacts, context: BuildContext): Promise<void> {
  const { host, options, folders } = context;
  const { signal, say, jobs, act } = options;
  const making = { host, facts, ...folders, jobs, act, signal, say };
  const isStore = group.some(({ kind }) => kind === 'store');
  const storage = isStore ? await unpackImages(group, making) : undefined;
  for (const part of group) await makeAndRecord(part, storage, { ...context, making });
  if (isStore) await removeUnpacked(making);
}

async function makeAndRecord(
  part: Part,
  storage: UnpackedStorage | undefined,
  { options, folders, pool, journal, making }: BuildContext & { readonly making: MakeContext },
): Promise<void> {
  const { signal, say } = options;
  signal.throwIfAborted();
  say(`${part.id}: started`);
  const { unpackedBytes, ...made } = await makePart(part, storage, making);
  const inPieces = part.kind === 'store' ? part.paths[0] : undefined;
  const files = await hashPart(folders.bundle, part.paths, { ...folders, pool, inPieces, signal });
  await journal.commit({
    parts: { ...journal.record.parts, [part.id]: { key: part.key, files: [...files], ...made } },
    unpackedBytes: { ...journal.record.unpackedBytes, ...Object.fromEntries(unpackedBytes ?? []) },
  });
}

/** Counts layers that no store has counted, writes README.txt, removes payloads that are no longer wanted, and seals the bundle. */
async function sealBundle(parts: readonly Part[], facts: BuildFacts, context: BuildContext): Promise<RecordedFile> {
  const { host, options, outline, folders, pool, journal } = context;
  const { bundle } = folders;
  const { signal, jobs, sourceDateEpoch, act } = options;
  const layers = layersOf(facts.stages.flatMap((one) => one.images));
  const uncounted = layers.filter((layer) => journal.record.unpackedBytes[layer.digest] === undefined);
  const counted = await countUnpacked(folders.layout, uncounted, { jobs, signal });
  await journal.commit({ unpackedBytes: { ...journal.record.unpackedBytes, ...Object.fromEntries(counted) } });

  const described = describeBundle(facts, {
    parts,
    made: journal.record.parts,
    unpackedBytes: knownSizes(journal.record),
    createdAt: sourceDateEpoch === undefined ? host.clock.now() : new Date(sourceDateEpoch * 1000),
    createdBy: { name: 'prestage-agent', version },
  });
  await act('write-readme', async () => await writeReadme(bundle, described, outline));
  const files = [
    ...Object.values(journal.record.parts).flatMap((part) => part.files),
    ...(await hashPart(bundle, [README], { ...folders, pool, signal })),
  ];
  const wanted = parts.flatMap((part) => part.paths);
  await act('remove-stale-payload', async () => await removeStale(bundle, wanted));
  await act('sync-bundle', async () => await syncFileSystem(host.exec, bundle));
  signal.throwIfAborted();
  const listed = files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 })).toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const manifest = await act('seal-bundle', async () => await seal(bundle, { ...described, files: listed }));
  const { imported: _, ...record } = journal.record;
  await act('record-seal', async () => await writeRecord(bundle, { ...record, sealed: { key: outline.key, file: manifest } }));
  await removeBuildWork(options, folders, context.input.kind);
  return manifest;
}

/** Removes working files of a sealed bundle, also those of a build that was killed before it could. */
export async function removeBuildWork({ act }: Pick<BuildOptions, 'act'>, folders: BuildFolders, kind: BuildInput['kind']): Promise<void> {
  const places = [folders.work, ...(kind === 'archives' ? [folders.layout] : [])].filter((path) => existsSync(path));
  for (const path of places) await act('remove-build-work', async () => await removeTree(path));
}

async function writeReadme(bundle: string, described: Omit<Bundle, 'files'>, outline: Outline): Promise<void> {
  const text = siteReadme(
    described,
    outline.agents.map((agent) => agent.path),
  );
  const earlier = await readFile(join(bundle, README), 'utf8').catch(() => '');
  if (earlier !== text) await writeFile(join(bundle, README), text);
}
