import { normaliseStore } from '../../agent/factory/build/store-normalise.ts';
import { packSquashfs } from '../../agent/factory/build/store-pack.ts';
import { linuxHost } from '../../agent/host/linux.ts';

/** The squashfs step of a build as a program of its own: `pack-store.ts GRAPHROOT IMAGE JOBS`. */
const [graphroot = '', image = '', jobs = '1'] = process.argv.slice(2);
const host = linuxHost({ root: '/', env: {}, log: (_, message) => console.error(message) });
const stampSeconds = 1_700_000_000;
await normaliseStore(graphroot, { stampSeconds, undated: new Set() });
await packSquashfs(host, { graphroot, image, stampSeconds, jobs: Number(jobs), signal: new AbortController().signal });
