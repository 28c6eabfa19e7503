import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PayloadKind } from '../../agent/factory/compose/plan.ts';
import { runBuild } from './build.ts';
import { requestOf } from './cluster.ts';
import type { MadeImage } from './images.ts';
import { type MountFixture, type MountNode, makeMountFixture } from './mount-node.ts';

/** Images with `sh` in them and a registry image, and bundles of them in many forms. */
export interface RegistryFixture extends MountFixture {
  /** The directory of a bundle with these payloads, built when it is asked for first: not to be changed. */
  bundleOf(payloads: readonly PayloadKind[], more?: { readonly registryImage?: string }): Promise<string>;
}

export async function makeRegistryFixture(): Promise<RegistryFixture> {
  const fixture = await makeMountFixture(['oci']);
  return {
    ...fixture,
    bundleOf: async (payloads, more = {}) => {
      const directory = join(fixture.work, `bundle-${[...payloads, more.registryImage === undefined ? '' : 'named'].join('-')}`);
      if (!existsSync(directory)) await runBuild({ from: `${fixture.bundle}-pulled`, to: directory, payloads, ...more });
      return directory;
    },
  };
}

/** `name:tag` or `name@digest` -> name. */
export function repositoryOf({ reference }: MadeImage): string {
  return reference.replace(/[:@][^/]*$/, '');
}

/** Pulls every image anew by podman, by its name and by its digest, and has skopeo copy it whole; what was pulled runs. */
export async function assertPulls(node: MountNode, images: readonly MadeImage[]): Promise<void> {
  for (const image of images) {
    for (const name of new Set([image.reference, `${repositoryOf(image)}@${image.digest}`])) {
      const pulled = await node.podman('pull', name);
      assert.deepEqual([name, pulled.exitCode], [name, 0], pulled.stderr);
    }
    await node.output('skopeo', ['inspect', '--no-tags', `docker://${image.reference}`]);
    await node.output('sh', ['-c', 'rm -rf /run/copy; skopeo copy --quiet "docker://$1" dir:/run/copy', 'sh', image.reference]);
  }
}

/** What the registry of the node was asked for and has answered, as `GET /v2/… 200`, without `/v2/` itself. */
export async function requestsAt(node: MountNode): Promise<readonly string[]> {
  const log = await readFile(node.path('/run/prestage-agent/registry/registry.log'), 'utf8').catch(() => '');
  return log
    .split('\n')
    .flatMap(requestOf)
    .filter((line) => !line.includes(' /v2/ '));
}

/** Bytes of all files below a directory of the node. */
export async function bytesBelow(node: MountNode, path: string): Promise<number> {
  const [bytes = '0'] = (
    await node.output('sh', ['-c', 'du --bytes --summarize --one-file-system "$1" 2>/dev/null || echo 0', 'sh', path])
  ).split('\t');
  return Number(bytes);
}

/** /etc of the node without the lock that podman 4 itself makes there. */
export async function etcOf(node: MountNode): Promise<Readonly<Record<string, string>>> {
  const tree = await node.etcTree();
  return Object.fromEntries(Object.entries(tree).filter(([path]) => !/^\/cni(?:\/|$)/.test(path)));
}
