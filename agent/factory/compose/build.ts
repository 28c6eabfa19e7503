import { join, resolve } from 'node:path';
import { removeTemporaries } from '../../host/atomic.ts';
import { makeWorkplace } from '../../host/chain.ts';
import type { Host } from '../../host/host.ts';
import { takeLock } from '../../host/lock.ts';
import { PrestageError } from '../../model/errors.ts';
import { gatherFacts, type Outline, outlineOf } from './facts.ts';
import { archiveBytes, digestFinder } from './import-archives.ts';
import { type BuildInput, readInput } from './input.ts';
import { type BuildOptions, type BuildReport, foldersOf } from './options.ts';
import { checkOutput, checkSpace } from './output-folder.ts';
import { PAYLOAD_KINDS, planBuild, storePartId } from './plan.ts';
import { BUILD_FOLDER, type BuildRecord, isSealed, readRecord } from './record.ts';
import { choicesOf, decide, removeBuildWork, runBuild } from './run-build.ts';
import { requireTools } from './tools.ts';

/**
 * Builds a bundle: keeps unchanged parts, makes the rest, and seals the bundle with its manifest at the very end. If it is interrupted, the
 * bundle stays marked as incomplete, and the next build continues from there.
 * @throws PrestageError ERR_BUILD_*, ERR_LAYOUT*, ERR_ARCHIVE_*, ERR_LIST, ERR_MAPPING, ERR_SPACE_BUILD, ERR_LOCKED, ERR_TOOL_*, ERR_INTERRUPTED
 */
export async function build(host: Host, wanted: BuildOptions): Promise<BuildReport> {
  // In a fixed order, so that the order on the command line does not matter.
  const options = { ...wanted, payloads: PAYLOAD_KINDS.filter((kind) => wanted.payloads.includes(kind)) };
  const [from, to] = [resolve(options.from), resolve(options.to)];
  requireRoot(options);
  await checkOutput(to, from);
  const input = await readInput(from, options);
  for (const notice of input.notices) host.log('notice', notice);
  const outline = await outlineOf(input, options);
  const record = await readRecord(to);
  if (await isSealed(to, outline.key, record)) {
    if (!options.isDry) await removeBuildWork(options, foldersOf(options, input.kind), input.kind);
    return unchangedReport(to, record);
  }
  await requireTools(host, options.payloads, input.kind);
  if (outline.agents.length === 0) {
    host.log('warning', 'the bundle gets no program for the node: the agent runs from its sources, and --agent is not given');
  }
  try {
    if (options.isDry) return await plan(options, input, outline, record);
    await using _lock = await options.act('start-build', async () => await lockBundle(to));
    return await runBuild(host, { options, input, outline });
  } catch (error) {
    if (!options.signal.aborted) throw error;
    throw new PrestageError('ERR_INTERRUPTED', 'the build was interrupted', 'Run the command again to continue', {
      cause: error,
    });
  }
}

/** Also removes temporary files of a killed build. */
async function lockBundle(bundle: string): Promise<AsyncDisposable> {
  const folder = join(bundle, BUILD_FOLDER);
  await makeWorkplace(folder);
  const lock = await takeLock({ path: join(folder, 'lock'), waitSeconds: 0, command: `build --to ${bundle}` });
  for (const directory of [bundle, folder]) await removeTemporaries(directory);
  return lock;
}

function requireRoot({ payloads }: BuildOptions): void {
  if (!payloads.includes('store') || process.getuid?.() === 0) return;
  throw new PrestageError(
    'ERR_BUILD_STORE',
    'a store image takes root: it holds files of many owners, and its proof mounts it',
    'Give the command again with sudo, or leave store out of --payload',
  );
}

function unchangedReport(bundle: string, record: BuildRecord): BuildReport {
  const parts = Object.keys(record.parts).map((id) => ({ id, state: 'keep' as const, outputBytes: 0, workBytes: 0 }));
  return { outcome: 'unchanged', bundle, parts, ...(record.sealed && { manifestSha256: record.sealed.file.sha256 }) };
}

/** Archives are not unpacked for a plan: their own sizes are used instead of those of their content. */
async function plan(options: BuildOptions, input: BuildInput, outline: Outline, record: BuildRecord): Promise<BuildReport> {
  const { bundle, layout, work } = foldersOf(options, input.kind);
  if (input.kind === 'oci') {
    const facts = await gatherFacts(input, outline, { ...options, layout, digestOf: digestFinder(record), record, canLink: true });
    return { outcome: 'planned', bundle, parts: await decide(bundle, planBuild(facts), record), ...choicesOf(facts) };
  }
  const bytes = archiveBytes(input);
  await checkSpace({ outputBytes: bytes, workBytes: 0 }, bundle, work);
  const ids = options.payloads.flatMap((kind) => (kind === 'store' ? input.stages.map(({ stage }) => storePartId(stage)) : [kind]));
  return {
    outcome: 'planned',
    bundle,
    parts: [
      ...ids.map((id) => ({ id, state: 'make' as const, outputBytes: bytes, workBytes: bytes })),
      ...outline.agents.map(({ path, sizeBytes }) => ({ id: path, state: 'make' as const, outputBytes: sizeBytes, workBytes: 0 })),
    ],
  };
}
