import { join } from 'node:path';
import { makeImage } from '../disk.ts';
import type { Scenario } from '../trial.ts';
import { agentEnds } from './agent-ends.ts';
import { busyCheck } from './busy-check.ts';
import { chain } from './chain.ts';
import { cluster } from './cluster.ts';
import {
  damaged,
  disk,
  EXCHANGED_RAN,
  exchangeExecutable,
  exchangeStore,
  spoilArchive,
  spoilLayer,
  spoilStore,
  spoilSuperblock,
} from './damage.ts';
import { discoveryFault } from './discovery-fault.ts';
import { signedSource } from './signed-source.ts';
import { spoiledStore } from './spoiled-store.ts';

const EXTRACT = { discovery: { delivery: 'extract' }, installed: { delivery: 'extract' }, mirrors: false } as const;

/** All that machines are put through, in order. */
export const SCENARIOS: readonly Scenario[] = [
  chain({ ...EXTRACT, name: 'extract oci, /usr read-only and /usr/local on /var', payload: 'oci' }),
  chain({
    ...EXTRACT,
    name: 'extract archives, policy closed, spec 3.2.0 and 3.1.0',
    payload: 'archives',
    policy: 'closed',
    discoverySpec: '3.2.0',
    installedSpec: '3.1.0',
  }),
  chain({ ...EXTRACT, name: 'extract folder of the earlier tools', payload: 'folder' }),
  chain({ ...EXTRACT, name: 'extract oci, ten boots', payload: 'oci', stops: Array.from({ length: 9 }, () => 'clean') }),
  chain({ ...EXTRACT, name: 'extract oci, power cuts', payload: 'oci', stops: ['power-cut', 'clean', 'power-cut', 'clean'] }),
  chain({ ...mount('ram', 'partition'), name: 'mount, ram then partition, policy closed', policy: 'closed' }),
  chain({
    ...mount('partition', 'disk'),
    name: 'mount, partition of a disk of its own, then disk',
    hasDiskOfItsOwn: true,
    stops: ['power-cut', 'clean', 'power-cut', 'clean'],
  }),
  chain({
    ...mount('ram', 'partition'),
    name: 'mount, operating system read at the pivot under the policy of OpenShift 4.22',
    payload: 'store,system',
    demands: 'signatures',
    stops: ['clean', 'clean'],
  }),
  chain({ ...registry('extract'), name: 'extract, then registry', payload: 'oci,registry' }),
  chain({
    ...registry('registry'),
    name: 'registry on a disk of its own, agent under the GPG policy of RHEL',
    payload: 'registry',
    hasDiskOfItsOwn: true,
    isAgentSigned: true,
  }),
  chain({ ...mount('ram', 'partition'), name: 'mount under the policy of OpenShift 4.22', demands: 'signatures', stops: ['clean'] }),
  chain({
    ...registry('extract'),
    name: 'registry under the policy of OpenShift 4.22',
    payload: 'oci,registry',
    demands: 'signatures',
    stops: ['clean'],
  }),
  chain({
    ...EXTRACT,
    name: 'extract where nothing but some registries is allowed',
    payload: 'oci',
    demands: 'allowed registries',
    stops: ['power-cut', 'clean'],
  }),
  signedSource('mount and extract without signatures, with a source that has them, under the policy of OpenShift 4.22'),
  chain({ name: 'archives of oc-mirror', payload: 'oc-mirror', mirrors: true }),
  agentEnds('agent that ends in every way, policy open', 'open'),
  agentEnds('agent that ends in every way, policy closed', 'closed'),
  cluster('three nodes, of which the first serves'),
  discoveryFault({
    name: 'second disk without the label',
    payload: 'oci',
    policy: 'open',
    disks: async (trial, bundle) => [await disk(trial, bundle), await makeImage(join(trial.work, 'other.img'), 1024)],
    expect: { exitCode: 0, agent: 'ran', readiness: 'ready' },
  }),
  discoveryFault({
    name: 'disk that comes 20 s late',
    payload: 'oci',
    policy: 'closed',
    lateSeconds: 20,
    disks: async (trial, bundle) => [await disk(trial, bundle)],
    expect: { exitCode: 0, agent: 'ran', readiness: 'ready' },
  }),
  discoveryFault({
    name: 'no disk, policy open',
    payload: 'oci',
    policy: 'open',
    waitSeconds: 3,
    disks: async () => [],
    expect: { exitCode: 64 + 5, says: /no partition data after 3 s: attach its disk/, agent: 'asked' },
  }),
  discoveryFault({
    name: 'no disk, policy closed',
    payload: 'oci',
    policy: 'closed',
    waitSeconds: 3,
    disks: async () => [],
    expect: { exitCode: 5, says: /no partition data after 3 s: attach its disk/, agent: 'kept back' },
  }),
  discoveryFault({
    name: 'two disks of one label',
    payload: 'oci',
    policy: 'open',
    disks: async (trial, bundle) => [await disk(trial, bundle), await disk(trial, bundle, 'twin.img')],
    expect: {
      exitCode: 64 + 5,
      says: /several partitions data: detach all but one of \/dev\/loop\d+p\d+ \/dev\/loop\d+p\d+/,
      agent: 'asked',
    },
  }),
  discoveryFault({
    name: 'corrupt blob, policy open',
    payload: 'oci',
    policy: 'open',
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilLayer)],
    expect: { exitCode: 64 + 3, says: /sha256|digest/i, agent: 'ran', readiness: 'partial' },
  }),
  discoveryFault({
    name: 'corrupt blob, policy closed',
    payload: 'oci',
    policy: 'closed',
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilLayer)],
    expect: { exitCode: 3, agent: 'kept back', readiness: 'partial' },
  }),
  discoveryFault({
    name: 'corrupt archive, policy open',
    payload: 'archives',
    policy: 'open',
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilArchive)],
    expect: { exitCode: 64 + 3, agent: 'ran', readiness: 'partial' },
  }),
  discoveryFault({
    name: 'corrupt store image, policy open',
    payload: 'store',
    policy: 'open',
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilStore)],
    expect: { exitCode: 64 + 6, says: /store image/, agent: 'asked', readiness: 'degraded' },
  }),
  discoveryFault({
    name: 'corrupt store image that is not copied, policy closed',
    payload: 'store',
    policy: 'closed',
    settings: { placement: 'partition', trust: 'hash' },
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilStore)],
    expect: { exitCode: 6, says: /store image/, agent: 'kept back', readiness: 'degraded' },
  }),
  discoveryFault({
    name: 'corrupt store image, and oci beside it',
    payload: 'store,oci',
    policy: 'closed',
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilStore)],
    expect: { exitCode: 0, says: /store image .*the images are delivered by extract/, agent: 'ran', readiness: 'ready' },
  }),
  discoveryFault({
    name: 'store image that does not mount, and oci beside it',
    payload: 'store,oci',
    policy: 'closed',
    settings: { placement: 'partition', trust: 'background' },
    disks: async (trial, bundle) => [await damaged(trial, bundle, spoilSuperblock)],
    expect: { exitCode: 0, says: /store image .*the images are delivered by extract/, agent: 'ran', readiness: 'ready' },
  }),
  spoiledStore('store image that goes bad on an installed node'),
  busyCheck('check behind the boot, with runs and a release while it works'),
  discoveryFault({
    name: 'exchanged store image',
    payload: 'store',
    policy: 'closed',
    disks: async (trial, bundle) => [await damaged(trial, bundle, exchangeStore)],
    expect: { exitCode: 6, says: /store image/, agent: 'kept back', readiness: 'degraded' },
  }),
  discoveryFault({
    name: 'exchanged bundle',
    payload: 'oci',
    policy: 'closed',
    disks: async (trial) => [await disk(trial, await trial.factory.bundle('archives'))],
    expect: { exitCode: 6, says: /prestage\.json/, agent: 'kept back', readiness: 'failed' },
  }),
  discoveryFault({
    name: 'exchanged executable',
    payload: 'oci',
    policy: 'closed',
    disks: async (trial, bundle) => [await damaged(trial, bundle, exchangeExecutable)],
    expect: { exitCode: 6, says: /does not have the pinned sha256/, agent: 'kept back', absent: EXCHANGED_RAN },
  }),
  discoveryFault({
    name: 'full root disk',
    payload: 'oci',
    policy: 'open',
    varMiB: 116,
    settings: { delivery: 'extract' },
    disks: async (trial, bundle) => [await disk(trial, bundle)],
    expect: { exitCode: 64 + 7, agent: 'asked', readiness: 'failed' },
  }),
];

/** The delivery `mount`, with where the store image lies in each stage. */
function mount(discovery: string, installed: string) {
  const settings = (placement: string) => ({ delivery: 'mount', placement });
  return { payload: 'store', mirrors: true, discovery: settings(discovery), installed: settings(installed) } as const;
}

/** The delivery `registry` on the installed node. Where it serves in discovery too, the data partition stays in use. */
function registry(discovery: string) {
  return { mirrors: true, discovery: { delivery: discovery }, installed: { delivery: 'registry' } } as const;
}
