import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { mountPointsBelow, type Sandbox } from './agent.ts';
import type { MadeImage } from './images.ts';

/** What of an image must be found in a storage. */
export type Expected = Pick<MadeImage, 'reference' | 'digest'> & { readonly names?: readonly string[] };

/** The digests that each name answers to, by containers-storage's own records. Source: containers/storage, images.go. */
export async function recordedDigests(graphroot: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const text = await readFile(join(graphroot, 'overlay-images/images.json'), 'utf8').catch(() => '[]');
  const records: { names?: string[]; digest?: string; 'big-data-digests'?: Record<string, string> }[] = JSON.parse(text);
  return new Map(
    records.flatMap((record) => {
      const digests = [record.digest ?? '', ...Object.values(record['big-data-digests'] ?? {})];
      return (record.names ?? []).map((name) => [name, digests] as const);
    }),
  );
}

/** Every image resolves by each of its names to a record of its digest, and podman agrees. */
export async function assertLoaded(sandbox: Sandbox, images: readonly Expected[], graphroot = sandbox.graphroot): Promise<void> {
  const recorded = await recordedDigests(graphroot);
  for (const image of images) {
    for (const name of image.names ?? [image.reference]) {
      assert.ok(recorded.get(name)?.includes(image.digest), `${name} does not have ${image.digest} but ${recorded.get(name)?.join(', ')}`);
      assert.equal((await sandbox.podman('image', 'exists', name)).exitCode, 0, `podman does not know ${name}`);
    }
  }
}

/** A run has left neither scratch nor mounts nor temporary files of its own. */
export async function assertNothingLeft(sandbox: Sandbox, scratch?: string): Promise<void> {
  const places = ['run/prestage-agent', 'var/lib/prestage-agent', 'dev/shm'].map((place) => join(sandbox.root, place));
  const left = await Promise.all([...places, ...(scratch === undefined ? [] : [scratch])].map(leftIn));
  assert.deepEqual(left.flat(), []);
  assert.deepEqual(await mountPointsBelow(join(sandbox.root, 'run/prestage-agent')), []);
}

async function leftIn(directory: string): Promise<readonly string[]> {
  const names = await readdir(directory).catch(() => []);
  return names.filter((name) => /scratch|partition|tmp$|^prestage-agent$/.test(name)).map((name) => join(directory, name));
}

/** Every file below a directory with kind, mode, size, time and content: equal texts mean that nothing was written. */
export async function treeOf(directory: string): Promise<string> {
  const script = `cd "$1" && find . -printf '%P %y %m %s %T@ %l\\n' | sort && find . -type f -print0 | sort -z | xargs -0 -r sha256sum`;
  return await output(execOnLinux, 'sh', ['-c', script, 'sh', directory]);
}
