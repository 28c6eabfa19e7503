import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { PullEvent } from '../../agent/factory/pull/progress.ts';
import { pull } from '../../agent/factory/pull/pull.ts';
import type { PullReport } from '../../agent/factory/pull/report.ts';
import type { PullRequest } from '../../agent/factory/pull/request.ts';
import { plainAct } from '../../agent/host/acts.ts';
import type { Clock } from '../../agent/host/clock.ts';
import { systemClock } from '../../agent/host/clock.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { type Digest, digestOf, digestOfHex } from '../../agent/model/digest.ts';
import { blobsOf, type MadeImage } from './images.ts';

/** A pull with all that it told. */
export interface TriedPull {
  readonly report: PullReport;
  readonly events: readonly PullEvent[];
  /** Bytes that came over the network. */
  readonly fetchedBytes: number;
  readonly log: readonly string[];
}

/** Pauses pass twenty times as fast: what is waited for by the clock is tested with the clock. */
const fastClock: Clock = { ...systemClock, sleep: async (ms, signal) => await systemClock.sleep(ms / 20, signal) };

/** Pulls references from plain HTTP with two images at a time, unless told otherwise. */
export async function tryPull(
  to: string,
  references: readonly string[],
  options: Partial<PullRequest> & { readonly path?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<TriedPull> {
  const events: PullEvent[] = [];
  const log: string[] = [];
  const host = {
    ...linuxHost({ root: '/', env: options.env ?? {}, log: (severity, text) => log.push(`${severity}: ${text}`) }),
    clock: fastClock,
  };
  const report = await pull(host, {
    lists: [{ text: references.map((reference) => `${reference}\n`).join(''), where: options.path ?? '/l/ocp-images.txt' }],
    to,
    format: 'oci',
    signatures: 'none',
    attachments: false,
    source: { tlsVerify: false },
    skipsArtifacts: false,
    parallel: 2,
    retries: 3,
    stallMs: 60_000,
    isDry: false,
    act: plainAct,
    stop: new AbortController().signal,
    ...options,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  const fetchedBytes = events.reduce((sum, event) => sum + (event.kind === 'bytes' ? event.bytes : 0), 0);
  return { report, events, fetchedBytes, log };
}

/** Every blob that images need, manifests and configs included, each once, in order. */
export function neededBlobs(images: readonly MadeImage[]): readonly Digest[] {
  const all = images.flatMap((image) => [
    image.digest,
    ...image.instances.map(({ manifest }) => manifest.digest),
    ...blobsOf(image).map(({ digest }) => digest),
  ]);
  return [...new Set(all)].sort();
}

/** Sizes of configs and layers, each once. */
export function transferBytes(images: readonly MadeImage[]): number {
  const blobs = new Map(images.flatMap(blobsOf).map(({ digest, sizeBytes }) => [digest, sizeBytes]));
  return [...blobs.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * The blobs below a layout, each hashed: fails for one whose bytes are not what its name says.
 * @param isBlob which files are meant; all of them where left out
 */
export async function wholeBlobs(layout: string, isBlob: (name: string) => boolean = () => true): Promise<readonly Digest[]> {
  const directory = join(layout, 'blobs/sha256');
  const files = (await readdir(directory)).filter(isBlob).map((name) => join(directory, name));
  return await Promise.all(
    files.sort().map(async (file) => {
      const actual = digestOf(await readFile(file));
      if (actual !== digestOfHex(basename(file))) throw new Error(`${file} has the bytes of ${actual}`);
      return actual;
    }),
  );
}
