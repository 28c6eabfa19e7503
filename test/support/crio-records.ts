import { readFile, writeFile } from 'node:fs/promises';
import type { NodeSandbox } from './sandbox.ts';

/** A pod with one container, as records of containers-storage have it. */
export interface CrioPod {
  readonly id: string;
  readonly name: string;
  readonly namespace: string;
  /** Name of its container beside the sandbox. */
  readonly container: string;
  /** Reference of the image of both. */
  readonly image: string;
}

const STORAGE = '/var/lib/containers/storage';
const VOLATILE = `${STORAGE}/overlay-containers/volatile-containers.json`;

/**
 * Makes the containers of a pod as CRI-O does: volatile, with its names and its metadata, and unknown to podman but for the records. The library
 * that makes them is the same; what is left to do here is to put in what CRI-O would hand to it.
 * Source: cri-o, internal/storage/runtime.go, createContainerOrPodSandbox; internal/lib/sandbox/builder.go, internal/factory/container/container.go.
 * @param node with a podman of version 5
 */
export async function makePod(node: NodeSandbox, pod: CrioPod): Promise<void> {
  const suffix = `${pod.name}_${pod.namespace}_uid-of-${pod.name}_0`;
  const parts = [
    { name: `k8s_POD_${suffix}`, metadata: 'POD', isSandbox: true },
    { name: `k8s_${pod.container}_${suffix}`, metadata: pod.container, isSandbox: false },
  ];
  for (const { name } of parts) {
    await node.output('podman', ['create', '--rm', '--network=host', '--pull=never', '--name', name, pod.image, 'sleep', '60']);
  }
  await node.output('rm', [`${STORAGE}/db.sql`]);
  const path = node.path(VOLATILE);
  const records: { names?: string[] }[] = JSON.parse(await readFile(path, 'utf8'));
  const changed = records.map((record) => {
    const part = parts.find(({ name }) => record.names?.includes(name));
    if (part === undefined) return record;
    const metadata = {
      'pod-name': `k8s_${suffix}`,
      'pod-id': pod.id,
      'image-name': pod.image,
      name: part.name,
      'metadata-name': part.metadata,
      'created-at': 1_700_000_000,
      ...(part.isSandbox && { uid: `uid-of-${pod.name}`, namespace: pod.namespace, pod: true }),
    };
    return { ...record, names: [part.name, ...(part.isSandbox ? [`k8s_${suffix}`] : [])], metadata: JSON.stringify(metadata) };
  });
  await writeFile(path, JSON.stringify(changed));
}

/** A program with the name by which CRI-O is found. */
export async function startCrioStandIn(node: NodeSandbox): Promise<void> {
  await node.output('cp', ['/bin/sleep', '/run/crio']);
  node.start('/run/crio', ['600']);
  await node.output('sh', ['-c', 'until grep -qx crio /proc/[0-9]*/comm; do sleep 0.05; done']);
}
