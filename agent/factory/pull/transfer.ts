import type { Clock } from '../../host/clock.ts';
import type { Exec } from '../../host/exec.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { nameOf } from '../../model/reference.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import { pullFailure } from '../shared/failures.ts';
import { copyFlags, type PullSource, sourceEnv } from '../web/source.ts';
import type { Receiver, Session } from './receiver.ts';
import type { ResolvedImage } from './resolve.ts';

export interface TransferContext {
  readonly exec: Exec;
  readonly clock: Clock;
  readonly source: PullSource;
  readonly receiver: Receiver;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
  /** A transfer without data for this long is stopped and counts as a failed connection. */
  readonly stallMs: number;
  readonly onBytes: (bytes: number) => void;
}

/**
 * Fetches the missing blobs of an image, by the digest that it was resolved to. Its signatures have tags of their own:
 * attachments.ts fetches them.
 * @throws PrestageError ERR_PULL_*, ERR_SPACE_PULL
 */
export async function transferImage(image: ResolvedImage, context: TransferContext): Promise<void> {
  if (isWhole(image, context.store)) return;
  await using session = await context.receiver.open(image, context.onBytes);
  const stalled = new AbortController();
  const ended = new AbortController();
  const watch = watchStall(session, context, stalled, ended.signal);
  try {
    const to = ['--dest-authfile', session.authFile, '--dest-tls-verify=false'];
    const flags = ['--quiet', '--preserve-digests', '--remove-signatures', ...copyFlags(context.source), ...to];
    for (const { digest, isList } of copiesOf(image)) {
      const from = `docker://${nameOf(image.listed.reference)}@${digest}`;
      const result = await context.exec('skopeo', ['copy', ...(isList ? ['--all'] : []), ...flags, from, session.destination], {
        signal: AbortSignal.any([context.signal, stalled.signal]),
        env: sourceEnv(context.source),
      });
      if (session.fault !== undefined) throw session.fault;
      if (result.exitCode !== 0) {
        const stderr = stalled.signal.aborted ? `timeout awaiting data for ${context.stallMs / 1000} s` : result.stderr;
        throw pullFailure(image.listed.text, { ...result, stderr });
      }
    }
  } finally {
    ended.abort();
    await watch;
  }
  if (isWhole(image, context.store)) return;
  const missing = image.blobs.filter(({ digest }) => !context.store.has(digest)).map(({ digest }) => digest);
  throw new PrestageError(
    'ERR_PULL',
    `${image.listed.text}: skopeo succeeded but did not deliver ${missing.join(', ')}`,
    'Try by hand: skopeo copy --all --preserve-digests docker://REFERENCE dir:DIRECTORY',
  );
}

/** Copies a list in one go. If the registry lacks some of its images, skopeo would fail, so the others are copied one by one. */
function copiesOf({ top, manifests, absent }: ResolvedImage): readonly { readonly digest: Digest; readonly isList: boolean }[] {
  if (absent.length === 0) return [{ digest: top.digest, isList: true }];
  return manifests.filter(({ manifest }) => manifest.kind === 'image').map(({ digest }) => ({ digest, isList: false }));
}

export function isWhole(image: ResolvedImage, store: BlobStore): boolean {
  return image.blobs.every(({ digest }) => store.has(digest));
}

async function watchStall(
  session: Session,
  { clock, stallMs }: TransferContext,
  stalled: AbortController,
  ended: AbortSignal,
): Promise<void> {
  while (!ended.aborted && !stalled.signal.aborted) {
    await clock.sleep(Math.min(1000, stallMs), ended).catch(() => undefined);
    if (!ended.aborted && performance.now() - session.activeMs > stallMs) stalled.abort();
  }
}
