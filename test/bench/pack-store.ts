import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { normaliseStore, readStorage } from '../../agent/factory/compose/store-normalise.ts';
import { packSquashfs } from '../../agent/factory/compose/store-pack.ts';
import { linuxHost } from '../../agent/host/linux.ts';

/** The squashfs step of a build as a program of its own, with mksquashfs's own level of zstd: `pack-store.ts GRAPHROOT IMAGE JOBS`. */
const [graphroot = '', image = '', jobs = '1'] = process.argv.slice(2);
const host = linuxHost({ root: '/', env: {}, log: (_, message) => console.error(message) });
const stampSeconds = 1_700_000_000;
const records: readonly { id: string; names: string[] }[] = JSON.parse(
  await readFile(join(graphroot, 'overlay-images/images.json'), 'utf8'),
);
const images = new Map(records.map(({ id, names }) => [id, { names, isUndated: false }]));
const without = await normaliseStore(await readStorage(graphroot), { stampSeconds, images });
const compression = { algorithm: 'zstd' } as const;
const signal = new AbortController().signal;
await packSquashfs(host, { graphroot, without, image, compression, stampSeconds, jobs: Number(jobs), signal, onTenth: () => undefined });
