import { resolve } from 'node:path';
import pLimit from 'p-limit';
import { readUserRegistries } from '../../engine/registries-view.ts';
import { type ArchivePool, createArchivePool } from '../../extract/pool.ts';
import { output } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { spaceAt } from '../../host/space.ts';
import { formatBytes } from '../../model/bytes.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { formatReference } from '../../model/reference.ts';
import { readUserRegistriesD } from '../../signatures/own-registries-d.ts';
import { createBlobStore } from '../shared/blob-store.ts';
import { readLeftOut, writeLeftOut } from '../shared/left-out.ts';
import { makePlaces, type Places } from '../shared/places.ts';
import { openRegistryClient } from '../web/registry-client.ts';
import { withCaDirectory } from '../web/source.ts';
import { type AbsentRecord, openAbsentRecord } from './absent-record.ts';
import { createArchivesTarget } from './archives-target.ts';
import { createAttachedFinder } from './attached-finder.ts';
import { type AttachmentContext, createAttachmentFinder } from './attachments.ts';
import { executePull, type StepResult } from './execute.ts';
import { type WantedImages, wantedImages } from './lists.ts';
import { createLookasideFinder, type LookasideFinder } from './lookaside-finder.ts';
import { type LookasideServer, openLookasideServer } from './lookaside-server.ts';
import { openOciTarget } from './oci-target.ts';
import { type PullPlan, planPull } from './plan.ts';
import { startReceiver } from './receiver.ts';
import { pullReleaseSignatures } from './release-signatures.ts';
import { isArtifact, type PullFacts, type PullReport, planReport, pullReport, withArtifacts } from './report.ts';
import type { PullRequest } from './request.ts';
import type { ResolvedImage } from './resolve.ts';
import { resolveAll } from './resolve-all.ts';
import type { PullTarget } from './target.ts';

/** Files checked at a time: the threads of the pool set the pace, this only bounds the queue. */
const PARALLEL_CHECKS = 32;

/**
 * Pulls the images of lists into one folder: an OCI image layout, or the prototype's archives. Keeps complete blobs and archives; replaces an
 * image as a whole if its tag has moved; reports faults of single images.
 * @throws PrestageError ERR_LIST, ERR_USAGE, ERR_ARCHIVE_COLLISION, ERR_LAYOUT, ERR_LOCKED, ERR_TOOL_MISSING, ERR_SPACE_PULL, ERR_PULL_WRITE
 */
export async function pull(host: Host, asked: PullRequest): Promise<PullReport> {
  const wanted = wantedImages(asked);
  for (const notice of wanted.notices) host.log('notice', notice);
  await output(host.exec, 'skopeo', ['--version']);
  await using places = await makePlaces(host, asked, resolve(asked.to));
  const request = { ...asked, source: await withCaDirectory(asked.source, places.scratch) };
  await using pool = createArchivePool({ size: Math.max(1, host.cores), log: host.log });
  const absent = await openAbsentRecord(places.to);
  const leftOut = new Set<string>();
  const target = await openTarget({ request, wanted, places, pool, absent, leftOut });
  request.onEvent({ kind: 'phase', text: `looking up ${wanted.images.length} images` });
  const resolution = await resolveAll(wanted.images, { host, request, scratch: places.scratch, store: target.store });
  request.onEvent({ kind: 'phase', text: 'checking existing files' });
  const delivered = await deliveredOf(resolution.resolved, target);
  const rest = resolution.resolved.filter((image) => !delivered.includes(image));
  const plan = planPull(rest, await presentOf(rest, target));
  const facts = { listed: wanted.images, resolution, plan, delivered, skipsArtifacts: request.skipsArtifacts };
  const lacking = await spaceFault(places.to, plan, target);
  if (request.isDry) return planReport(facts, lacking);
  if (lacking !== undefined) throw lacking;
  request.onEvent({ kind: 'planned', images: plan.steps.length, fetchBytes: plan.fetchBytes, keptBytes: plan.keptBytes });
  const results = await execute({ host, request, places, target, absent }, plan);
  const ended = withArtifacts(facts, results);
  if (request.skipsArtifacts) for (const text of artifactsAmong(ended)) leftOut.add(text);
  const report = pullReport(ended, results, request.stop.aborted);
  if (report.outcome !== 'interrupted') {
    await target.finish();
    await request.act('write-lists', async () => await recordLeftOut(places.to, ended));
  }
  if (report.outcome === 'complete') await releaseSignatures(resolution.resolved, { host, request, places, target });
  // The next pull writes failed archives from the blobs that are there.
  if (request.format === 'oci' || report.outcome === 'complete') await places.forget();
  return report;
}

interface Setting {
  readonly request: PullRequest;
  readonly wanted: WantedImages;
  readonly places: Places;
  readonly pool: ArchivePool;
  readonly absent: AbsentRecord;
  /** Lines to leave out, as listed: known once the registries have answered. */
  readonly leftOut: ReadonlySet<string>;
}

async function openTarget({ request, wanted, places, pool, absent, leftOut }: Setting): Promise<PullTarget> {
  const { to, blobs, scratch } = places;
  const hash = async (path: string) => `sha256:${(await pool.hash({ path }, { signal: request.stop })).sha256}` as const;
  const { act } = request;
  const store = createBlobStore({ directory: blobs, scratch, hash, act });
  if (request.format === 'archives')
    return createArchivesTarget({ directory: to, scratch, store, pool, lists: wanted.lists, leftOut, act, signal: request.stop });
  const references = wanted.images.map(({ reference }) => formatReference(reference));
  return await openOciTarget({ directory: to, store, lists: wanted.lists, leftOut, absent, references, act });
}

function artifactsAmong({ resolution }: PullFacts): readonly string[] {
  return [...resolution.failed].flatMap(([text, error]) => (isArtifact(error) ? [text] : []));
}

/** Records in the folder which listed lines are artifacts, and keeps the records of earlier pulls about other lines. */
async function recordLeftOut(to: string, { listed, resolution, skipsArtifacts }: PullFacts): Promise<void> {
  const all = new Map(await readLeftOut(to));
  for (const { text, reference } of listed) {
    const error = resolution.failed.get(text);
    if (skipsArtifacts && error !== undefined && isArtifact(error)) all.set(formatReference(reference), error.message);
    else all.delete(formatReference(reference));
  }
  await writeLeftOut(to, all);
}

async function deliveredOf(images: readonly ResolvedImage[], target: PullTarget): Promise<readonly ResolvedImage[]> {
  const limit = pLimit(PARALLEL_CHECKS);
  const found = await Promise.all(images.map((image) => limit(async () => ((await target.isDelivered(image)) ? image : undefined))));
  return found.filter((image) => image !== undefined);
}

async function presentOf(images: readonly ResolvedImage[], { store }: PullTarget) {
  const limit = pLimit(PARALLEL_CHECKS);
  const blobs = new Map(images.flatMap((image) => image.blobs).map((blob) => [blob.digest, blob]));
  const found = await Promise.all(
    [...blobs.values()].map((blob) => limit(async () => ((await store.check(blob)) ? blob.digest : undefined))),
  );
  return new Set(found.filter((digest) => digest !== undefined));
}

async function spaceFault(to: string, plan: PullPlan, target: PullTarget): Promise<PrestageError | undefined> {
  const needBytes = plan.fetchBytes + target.extraBytes(plan.steps);
  const { freeBytes } = await spaceAt(to);
  if (needBytes <= freeBytes) return undefined;
  return new PrestageError(
    'ERR_SPACE_PULL',
    `${to} needs ${formatBytes(needBytes)} but has ${formatBytes(freeBytes)} free`,
    'Free space there, give --to on a larger file system, or shorten the list',
  );
}

interface Execution extends Pick<Setting, 'request' | 'places' | 'absent'> {
  readonly host: Host;
  readonly target: PullTarget;
}

async function execute({ host, request, places, target, absent }: Execution, plan: PullPlan): Promise<readonly StepResult[]> {
  const { source, signatures, parallel, retries, stallMs, stop, onEvent } = request;
  await using receiver = await startReceiver(target.store, places.scratch);
  const { exec } = host;
  const requiresSignatures = signatures === 'require';
  const known = (reference: string): Digest | undefined => target.attachmentOf(reference);
  const finding = {
    exec,
    source,
    scratch: places.scratch,
    store: target.store,
    signal: stop,
    known,
    absent,
    asksAgain: requiresSignatures,
  };
  const attachments = signatures === 'none' ? undefined : createAttachmentFinder(finding);
  using server = await openLookasideServer(host, source);
  const lookaside = signatures === 'none' ? undefined : await lookasideFinder(server, finding, { host, request, target });
  using client = openRegistryClient(host, source);
  const looking = { client, store: target.store, log: host.log, signal: stop, known, absent };
  const attached = request.attachments ? createAttachedFinder({ ...looking, registries: await readUserRegistries(host) }) : undefined;
  const shared = { host, source, target, receiver, attachments, lookaside, attached, requiresSignatures };
  return await executePull(plan.steps, { ...shared, parallel, retries, stallMs, stop, onEvent });
}

async function releaseSignatures(
  images: readonly ResolvedImage[],
  { host, request, places, target }: Pick<Execution, 'host' | 'request' | 'places' | 'target'>,
): Promise<void> {
  const { releaseSignatures: from, source, retries, act, stop, onEvent } = request;
  if (from === undefined) return;
  onEvent({ kind: 'phase', text: 'fetching the signatures of releases' });
  using server = await openLookasideServer(host, source);
  await pullReleaseSignatures(images, { host, from, to: places.to, server, store: target.store, retries, act, signal: stop });
}

async function lookasideFinder(
  server: LookasideServer,
  { store, signal, absent, asksAgain }: AttachmentContext,
  { host, request, target }: Pick<Execution, 'host' | 'request' | 'target'>,
): Promise<LookasideFinder> {
  const { lookaside } = request;
  const registriesD = await readUserRegistriesD(host);
  const known = target.lookasideOf.bind(target);
  return createLookasideFinder({ server, lookaside, registriesD, store, signal, known, absent, asksAgain });
}
