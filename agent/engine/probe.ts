import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { howEnded, quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { temporaryDirectory } from '../host/remove-tree.ts';
import { reasonOf } from '../model/system-error.ts';

/** podman answers within 0.2 s; on a booting node, with cold caches, it can take seconds. */
const LIMIT_MS = 30_000;
const recordsSchema = v.pipe(v.string(), v.parseJson(), v.array(v.object({ id: v.string() })));

export interface Probe {
  readonly accepted: boolean;
  /** What podman answered, for the status. */
  readonly reason: string;
}

/**
 * Asks podman itself whether it accepts a store: with an empty storage of its own and this additional store, it must list the images of the store. No
 * table of versions can tell that. The machine's own storage is not touched.
 * @param storePath absolute path on this machine, with the store mounted
 */
export async function probeEngines(host: Host, storePath: string, { signal }: { readonly signal: AbortSignal }): Promise<Probe> {
  const expected = await imagesOf(storePath);
  if (typeof expected === 'string') return { accepted: false, reason: expected };
  // Not below our own directories: podman refuses a runroot of more than 50 characters.
  await using directory = await temporaryDirectory('prestage-', '/run');
  const work = directory.path;
  const [graph, run, tmp, conf] = [join(work, 'graph'), join(work, 'run'), join(work, 'tmp'), join(work, 'storage.conf')];
  await mkdir(tmp);
  // The machine's own storage.conf may list the same store, or one that is missing. A JSON string is a basic string of TOML.
  const quoted = [run, graph, storePath].map((path) => JSON.stringify(path));
  const lines = ['[storage]', 'driver = "overlay"', `runroot = ${quoted[0]}`, `graphroot = ${quoted[1]}`];
  await writeFile(conf, [...lines, '[storage.options]', `additionalimagestores = [${quoted[2]}]`, ''].join('\n'));
  // In a mount namespace of its own, because podman leaves its graphroot mounted.
  const args = ['--mount', 'podman', '--tmpdir', tmp, 'images', '--quiet', '--all', '--no-trunc'];
  const result = await host.exec('unshare', args, { signal, timeoutMs: LIMIT_MS, env: { CONTAINERS_STORAGE_CONF: conf } });
  signal.throwIfAborted();
  if (result.exitCode !== 0) return { accepted: false, reason: `podman ${howEnded(result)}: ${quote(result.stderr)}` };
  const listed = new Set(result.stdout.split('\n').map((line) => line.replace(/^sha256:/, '')));
  const unseen = expected.filter((id) => !listed.has(id)).length;
  if (unseen > 0)
    return { accepted: false, reason: `podman lists ${expected.length - unseen} of the ${expected.length} images of the store` };
  return { accepted: true, reason: `podman lists the ${expected.length} images of the store` };
}

/** Ids in the records of a store, or why there are none. Source: github.com/containers/storage, images.go. */
async function imagesOf(storePath: string): Promise<readonly string[] | string> {
  const path = join(storePath, 'overlay-images/images.json');
  try {
    return v.parse(recordsSchema, await readFile(path, 'utf8')).map(({ id }) => id);
  } catch (error) {
    return `${path} cannot be read: ${reasonOf(error)}`;
  }
}
