import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sealFiles } from '../prestage.ts';
import { startNginx } from '../web-server.ts';
import { contentOf, openFactoryPlace } from './places.ts';
import type { CrashScenario } from './points.ts';

const MIB = 1024 * 1024;
/** Over a MiB a download is gone on with. */
const LARGE = Buffer.alloc(2 * MIB, 'large');

/** A sealed bundle from nginx, over the folder of an earlier one that has a file that the new one has not. */
const fetchBundle: CrashScenario = {
  name: 'fetch of a bundle over an earlier one',
  steps: [
    'mark-fetch',
    'begin-download',
    'place-download',
    'sync-fetch',
    'remove-stale-file',
    'place-fetched-manifest',
    'remove-fetch-work',
    'unmark-fetch',
  ],
  prepare: async () => {
    const stack = new AsyncDisposableStack();
    const work = await mkdtemp(join(tmpdir(), 'fetch-from-'));
    stack.defer(async () => await rm(work, { recursive: true, force: true }));
    const [earlier, remote] = [join(work, 'earlier'), join(work, 'remote')];
    await sealFiles(earlier, { 'README.txt': 'earlier', 'archives/stale.tgz': 'stale', 'archives/kept.tgz': 'kept' });
    await sealFiles(remote, {
      'README.txt': 'newer',
      'archives/kept.tgz': 'kept',
      'archives/large.tgz': LARGE,
      'prestage-agent': '#!/bin/sh\n',
    });
    const server = stack.use(await startNginx(remote));
    return {
      open: async () =>
        await openFactoryPlace(async (place) => {
          const to = join(place, 'bundle');
          await cp(earlier, to, { recursive: true });
          return { args: ['fetch', server.url, '--to', to], end: async () => await contentOf(to) };
        }),
      [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
    };
  },
};

/** What it keeps to compare with the server next time has the times of this fetch. */
const FOLDER_JOURNAL = '.prestage-fetch/files.jsonl';

/** A folder without a manifest: the server's word alone. */
const fetchFolder: CrashScenario = {
  name: 'fetch of a folder without prestage.json',
  steps: ['mark-fetch', 'begin-download', 'place-download', 'note-download', 'sync-fetch', 'remove-fetch-work', 'unmark-fetch'],
  prepare: async () => {
    const stack = new AsyncDisposableStack();
    const remote = await mkdtemp(join(tmpdir(), 'fetch-from-'));
    stack.defer(async () => await rm(remote, { recursive: true, force: true }));
    const gzip = Buffer.concat([Buffer.from('\x1f\x8b\x08\0\0\0\0\0\0\x03', 'latin1'), LARGE]);
    await mkdir(join(remote, 'more'));
    await writeFile(join(remote, 'ocp-images.txt'), 'quay.io/example/tool:v1\n');
    await writeFile(join(remote, 'tool_v1.tgz'), gzip);
    await writeFile(join(remote, 'more/small.tgz'), gzip.subarray(0, 1000));
    const server = stack.use(await startNginx(remote));
    return {
      open: async () =>
        await openFactoryPlace(async (place) => {
          const to = join(place, 'folder');
          return {
            args: ['fetch', server.url, '--to', to],
            end: async () => await contentOf(to, (path) => path === FOLDER_JOURNAL),
          };
        }),
      [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
    };
  },
};

export const fetchScenarios: readonly CrashScenario[] = [fetchBundle, fetchFolder];
