import pLimit from 'p-limit';
import { version } from '../../assets.ts';
import type { SealedBundle } from '../../bundle/read-bundle.ts';
import type { Act } from '../../host/acts.ts';
import type { Host } from '../../host/host.ts';
import { errorRecord, PrestageError } from '../../model/errors.ts';
import { bare, createHttpClient, shown } from '../web/http.ts';
import { type DownloadContext, download, type RemoteFile } from './download.ts';
import { finish } from './finish.ts';
import { noteDownload } from './journal.ts';
import type { AskContext } from './listing.ts';
import { type FetchFailure, type FetchPlan, planBundle, planFolder } from './plan.ts';
import { isSealedBy, markPartial, requireRoom, requireSpace } from './prepare.ts';
import { folderUrl, readSource, type Source } from './source.ts';

export interface FetchRequest {
  /** Of the folder, or of the prestage.json in it; http or https, with or without user and password. */
  readonly url: string;
  /** The target; created if missing. */
  readonly directory: string;
  /** Files at a time. */
  readonly parallel: number;
  readonly retries: number;
  /** Sent only to the server of the URL. */
  readonly headers: Readonly<Record<string, string>>;
  /** PEM text of further authorities. */
  readonly ca?: string | undefined;
  /** The only hash that prestage.json may have. */
  readonly bundleSha256?: string | undefined;
  /** Plan only: writes nothing, and requests only the manifest, index pages and heads. */
  readonly isDry?: boolean;
  readonly act: Act;
  /** Called before a complete bundle is replaced by another; returns if the person agrees. If left out, nobody is asked. */
  readonly confirm?: ((replaced: SealedBundle) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
  readonly onEvent?: (event: FetchEvent) => void;
}

export type FetchEvent =
  | { readonly kind: 'phase'; readonly text: string }
  | { readonly kind: 'planned'; readonly files: number; readonly bytes: number; readonly keptFiles: number; readonly keptBytes: number }
  /** `sizeBytes` of the file have arrived so far. */
  | { readonly kind: 'bytes'; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: 'fetched'; readonly path: string; readonly sizeBytes: number }
  | { readonly kind: 'failed'; readonly path: string; readonly error: FetchFailure['error'] }
  | { readonly kind: 'retry'; readonly path: string; readonly error: FetchFailure['error']; readonly pauseMs: number };

/** How a fetch ended. Sizes are bytes. */
export interface FetchReport {
  /** Without user and password. */
  readonly url: string;
  readonly directory: string;
  /** `bundle`: checked against a manifest; `folder`: only against the server's information. */
  readonly source: 'bundle' | 'folder';
  /** `planned` for a dry run. */
  readonly outcome: 'complete' | 'partial' | 'failed' | 'planned';
  /** Of the manifest, if there is one. */
  readonly bundleSha256?: string;
  readonly fetched: { readonly files: number; readonly bytes: number };
  /** Files that were there already. */
  readonly kept: { readonly files: number; readonly bytes: number };
  readonly failed: readonly FetchFailure[];
  /** Files of an earlier bundle that the new one no longer has. */
  readonly removed: readonly string[];
  readonly notices: readonly string[];
}

/**
 * Fetches a bundle or a folder from a web server. Until it is complete, PARTIAL_FILE marks the target and the node refuses it; fetched data is
 * kept, and the next call continues. The manifest of a bundle is written last.
 * @throws PrestageError if nothing can be fetched at all: ERR_USAGE, ERR_FETCH_*, ERR_BUNDLE, ERR_BUNDLE_PIN, ERR_SPACE_FETCH; the signal's
 * reason. Faults of single files are in the report.
 */
export async function fetchFiles(host: Host, request: FetchRequest): Promise<FetchReport> {
  const folder = folderUrl(request.url);
  const say = request.onEvent ?? (() => undefined);
  using client = createHttpClient({
    headers: request.headers,
    origin: folder.origin,
    ca: request.ca,
    env: host.env,
    userAgent: `prestage-agent/${version}`,
  });
  const onRetry: AskContext['onRetry'] = (path, error, pauseMs) => say({ kind: 'retry', path, error: errorRecord(error), pauseMs });
  const context: AskContext = { client, clock: host.clock, retries: request.retries, signal: request.signal, onRetry };
  say({ kind: 'phase', text: `reading ${shown(folder)}` });
  const source = await readSource(folder, request.bundleSha256, context);
  const plan = await planOf(source, folder, request, context);
  say({ kind: 'planned', files: plan.wanted.length, bytes: plan.wantedBytes, keptFiles: plan.keptFiles, keptBytes: plan.keptBytes });
  const report = {
    url: shown(folder),
    directory: request.directory,
    source: source.kind,
    ...(source.kind === 'bundle' && { bundleSha256: source.sha256 }),
    kept: { files: plan.keptFiles, bytes: plan.keptBytes },
  };
  if (request.isDry === true) {
    const fetched = { files: plan.wanted.length, bytes: plan.wantedBytes };
    return { ...report, outcome: 'planned', fetched, failed: plan.failed, removed: [], notices: source.notices };
  }
  await requireSpace(request.directory, plan);
  await requireRoom(source, plan, request);
  const isChanged = plan.wanted.length > 0 || plan.failed.length > 0 || !(await isSealedBy(source, request.directory));
  if (isChanged) await request.act('mark-fetch', async () => await markPartial(request.directory));
  const done = await fetchAll(source, plan, { ...context, request, directory: request.directory, act: request.act, say });
  const failed = [...plan.failed, ...done.failed];
  const ended = failed.length === 0 && isChanged ? await finish(host, source, request) : { removed: [], notices: [] };
  const outcome = failed.length === 0 ? 'complete' : done.files + plan.keptFiles === 0 ? 'failed' : 'partial';
  return {
    ...report,
    outcome,
    fetched: { files: done.files, bytes: done.bytes },
    failed,
    removed: ended.removed,
    notices: [...source.notices, ...ended.notices],
  };
}

async function planOf(source: Source, folder: URL, request: FetchRequest, context: AskContext): Promise<FetchPlan> {
  if (source.kind === 'folder') return await planFolder(source.files, request, context);
  request.onEvent?.({ kind: 'phase', text: `comparing ${request.directory} with the manifest` });
  return await planBundle(source.bundle, folder, request);
}

interface FetchContext extends AskContext {
  readonly request: FetchRequest;
  readonly directory: string;
  readonly act: Act;
  readonly say: (event: FetchEvent) => void;
}

async function fetchAll(source: Source, plan: FetchPlan, context: FetchContext) {
  const limit = pLimit(context.request.parallel);
  const giveUp = new AbortController();
  const downloads: DownloadContext = {
    ...context,
    signal: AbortSignal.any([context.signal, giveUp.signal]),
    onBytes: (path, sizeBytes) => context.say({ kind: 'bytes', path, sizeBytes }),
  };
  const server = { failuresInARow: 0 };
  const fetchOne = async (file: RemoteFile): Promise<number | FetchFailure> => {
    try {
      if (server.failuresInARow >= 2 * context.request.parallel) throw lostServer(file);
      const done = await download(file, downloads);
      if (source.kind === 'folder')
        await context.act('note-download', async () => await noteDownload(context.directory, done, bare(file.url)));
      server.failuresInARow = 0;
      context.say({ kind: 'fetched', path: file.path, sizeBytes: done.sizeBytes });
      return done.sizeBytes;
    } catch (error) {
      context.signal.throwIfAborted();
      // There is no space for the next files either.
      if (error instanceof PrestageError && error.code === 'ERR_SPACE_FETCH') giveUp.abort(error);
      giveUp.signal.throwIfAborted();
      const record = errorRecord(error);
      server.failuresInARow = record.code === 'ERR_FETCH_NETWORK' ? server.failuresInARow + 1 : 0;
      context.say({ kind: 'failed', path: file.path, error: record });
      return { path: file.path, error: record };
    }
  };
  // Wait for all of them before throwing, so that nothing is written afterwards.
  const settled = await Promise.allSettled(plan.wanted.map((file) => limit(async () => await fetchOne(file))));
  const results = settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
  const sizes = results.filter((result) => typeof result === 'number');
  return {
    files: sizes.length,
    bytes: sizes.reduce((total, one) => total + one, 0),
    failed: results.filter((result) => typeof result !== 'number'),
  };
}

/** If the server is gone, every file would wait through all its retries. */
function lostServer(file: RemoteFile): PrestageError {
  return new PrestageError(
    'ERR_FETCH_NETWORK',
    `${shown(file.url)} was not tried: the server did not answer for the files before it`,
    'Check the network and the server, then run the command again: fetched files are kept',
  );
}
