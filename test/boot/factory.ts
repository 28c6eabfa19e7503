import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import type { Stage } from '../../agent/model/stage.ts';
import { addGpgSignatures, makeGpgKey } from '../support/gpg.ts';
import { makeLayer } from '../support/image-layer.ts';
import { type ImageSet, smallImageSet } from '../support/image-set.ts';
import { type MadeImage, makeImage as makeContainerImage, writeOciLayout } from '../support/images.ts';
import { writeRegistryTree } from '../support/registry.ts';
import { makeRegistryImage } from '../support/registry-image.ts';
import { attachSignatures, makeSigningKey, type SigningKey } from '../support/signing.ts';
import { editData, makeImage } from './disk.ts';
import { writeMirrorFolder } from './mirror-folder.ts';

/** How a payload comes to the partition: sealed in a bundle, also with an operating system, or as the folder of the earlier tools or of oc-mirror. */
export type PayloadKind =
  | 'oci'
  | 'archives'
  | 'store'
  | 'registry'
  | 'oci,registry'
  | 'store,oci'
  | 'folder'
  | 'oc-mirror'
  | 'store,system';

/** What the factory made once, for many disks. */
export interface Bundle {
  readonly directory: string;
  /** Of prestage.json; undefined for a folder, which has none. */
  readonly sha256: string | undefined;
  readonly agentSha256: string;
  readonly set: ImageSet;
  /** Reference of an operating system in it. */
  readonly system?: string;
  /** The public half of the key by which the assisted agent in it is signed. */
  readonly gpgKey?: Buffer;
}

/** The factory with its tools, and what it has made so far. */
export interface Factory {
  readonly executable: string;
  bundle(payload: PayloadKind): Promise<Bundle>;
  /** One whose images have signatures beside them, of the key below. */
  signedBundle(payload: PayloadKind): Promise<Bundle>;
  readonly signingKey: SigningKey;
  /** One in which the assisted agent is an image of registry.redhat.io with a GPG signature. */
  gpgSignedBundle(payload: PayloadKind): Promise<Bundle>;
  /** The tree of a registry that has all images with signatures of the key above, by the paths of their repositories. */
  signedRegistry(): Promise<string>;
  /** A new disk image with a data partition that holds a bundle. @param name of the image file below `directory` */
  disk(directory: string, name: string, bundle: Bundle): Promise<string>;
  /** Any other command, which must succeed; what it prints. */
  agent(...args: readonly string[]): Promise<string>;
  /** The override of a stage, merged into a base, as the command prints it. */
  ignition(stage: Stage, options: IgnitionRequest): Promise<string>;
}

export interface IgnitionRequest {
  readonly bundle: Bundle;
  readonly base: string;
  readonly policy: 'open' | 'closed';
  /** Where the base is put for the command to read. */
  readonly work: string;
}

export const DISK_MIB = 4096;
const PARTITION = '800MiB';
const LIMIT_MS = 180_000;

/** A factory that works by the built executable alone. */
export async function openFactory(work: string, executable: string): Promise<Factory> {
  const made = new Map<string, Promise<Bundle>>();
  const signingKey = makeSigningKey('rsa');
  const agent = async (...args: readonly string[]): Promise<string> => (await execa(executable, args, { timeout: LIMIT_MS })).stdout;
  let source: Promise<Source> | undefined;
  const layouts = new Map<string, Promise<string>>();
  const agentSha256 = hexOf(digestOf(await readFile(executable)));
  const sealed = async (directory: string, set: ImageSet): Promise<Bundle> => {
    return { directory, sha256: hexOf(digestOf(await readFile(join(directory, 'prestage.json')))), agentSha256, set };
  };
  const make = async (payload: PayloadKind, kind: 'pulled' | 'signed' | 'gpg'): Promise<Bundle> => {
    const set = await smallImageSet();
    // containers-storage takes a comma in the name of a directory for the end of it.
    const directory = join(work, `bundle-${kind}-${payload.replaceAll(',', '-')}`);
    if (payload === 'folder') return { directory: await makeFolder(directory, set, executable), sha256: undefined, agentSha256, set };
    source ??= makeSource(join(work, 'blobs'), set);
    if (payload === 'oc-mirror') {
      await writeMirrorFolder(directory, await source);
      await copyFile(executable, join(directory, 'prestage-agent'));
      return { directory, sha256: undefined, agentSha256, set };
    }
    if (payload === 'store,system') {
      const { layout: pulled, system } = await makeSystemLayout(
        join(work, `${kind}-system`),
        await source,
        kind === 'signed' ? signingKey : undefined,
      );
      await agent('build', '--from', pulled, '--to', directory, '--payload', 'store', '--agent', executable);
      return { ...(await sealed(directory, set)), system };
    }
    if (kind === 'gpg') {
      const signed = await makeGpgLayout(join(work, kind), await source);
      await agent('build', '--from', signed.layout, '--to', directory, '--payload', payload, '--agent', executable);
      return { ...(await sealed(directory, signed.set)), gpgKey: signed.publicKey };
    }
    const layout =
      layouts.get(kind) ?? source.then(async (all) => await makeLayout(join(work, kind), all, kind === 'signed' ? signingKey : undefined));
    layouts.set(kind, layout);
    await agent('build', '--from', await layout, '--to', directory, '--payload', payload, '--agent', executable);
    return await sealed(directory, set);
  };
  const once = (payload: PayloadKind, kind: 'pulled' | 'signed' | 'gpg'): Promise<Bundle> => {
    const known = made.get(`${kind} ${payload}`) ?? make(payload, kind);
    made.set(`${kind} ${payload}`, known);
    return known;
  };
  return {
    executable,
    agent,
    bundle: (payload) => once(payload, 'pulled'),
    signedBundle: (payload) => once(payload, 'signed'),
    signingKey,
    gpgSignedBundle: (payload) => once(payload, 'gpg'),
    signedRegistry: async () => {
      const tree = join(work, 'source-registry');
      source ??= makeSource(join(work, 'blobs'), await smallImageSet());
      const { store, set } = await source;
      await writeRegistryTree(store, tree, [...set.all, ...(await signaturesOf(store, set, signingKey))]);
      return tree;
    },
    disk: async (directory, name, bundle) => {
      const image = await makeImage(join(directory, name), DISK_MIB);
      const agreed = ['--yes', '--expect-serial', image];
      await agent('partition', 'create', image, '--size', PARTITION, ...agreed);
      if (bundle.sha256 === undefined)
        await editData(image, async (mountPoint) => void (await execa('cp', ['-r', `${bundle.directory}/.`, mountPoint])));
      else await agent('partition', 'write', bundle.directory, image, ...agreed);
      return image;
    },
    ignition: async (stage, { bundle, base, policy, work }) => {
      const file = join(work, `base-${stage}.ign`);
      await writeFile(file, base);
      const pins = bundle.sha256 === undefined ? ['--agent-sha256', bundle.agentSha256] : ['--bundle', bundle.directory];
      return await agent('ignition', stage, ...pins, '--policy', policy, '--merge', file);
    },
  };
}

/** The set, and an image that carries distribution. */
export interface Source {
  /** Where the blobs of all of them lie. */
  readonly store: string;
  readonly set: ImageSet;
  readonly registry: MadeImage;
}

async function makeSource(store: string, set: ImageSet): Promise<Source> {
  // Links: the blobs of the set are kept between runs, and nothing is written into one.
  await execa('cp', ['--archive', '--link', set.store, store]);
  return { store, set, registry: await makeRegistryImage(store) };
}

/** All of it as `pull` would leave it, with signatures if there is a key; the registry is in the lists of both stages. */
async function makeLayout(directory: string, { store, set, registry }: Source, key: SigningKey | undefined): Promise<string> {
  await mkdir(directory);
  await writeOciLayout(store, [...set.all, registry, ...(key === undefined ? [] : await signaturesOf(store, set, key))], directory);
  const list = (images: readonly MadeImage[]): string => [...images, registry].map(({ reference }) => `${reference}\n`).join('');
  await writeFile(join(directory, 'ai-images.txt'), list(set.discovery));
  await writeFile(join(directory, 'ocp-images.txt'), list(set.installed));
  return directory;
}

/** Signed as Red Hat does: each image of a list, by the very tag or by any tag of the repository. */
async function signaturesOf(store: string, set: ImageSet, key: SigningKey): Promise<readonly MadeImage[]> {
  const signed = set.all.map(async (image) => {
    const [repository = '', digest] = image.reference.split('@');
    return await attachSignatures(store, image, { key, reference: digest === undefined ? repository : `${repository}:signed` });
  });
  return (await Promise.all(signed)).flat();
}

/** The same with the assisted agent as Red Hat ships and signs it: an image of registry.redhat.io by digest, of which a tag is signed. */
async function makeGpgLayout(
  directory: string,
  source: Source,
): Promise<{ readonly layout: string; readonly set: ImageSet; readonly publicKey: Buffer }> {
  await using key = await makeGpgKey();
  const { set } = source;
  const repository = 'registry.redhat.io/multicluster-engine/assisted-installer-agent-rhel9';
  const agent: MadeImage = { ...set.images.agent, reference: `${repository}@${set.images.agent.digest}` };
  const renamed = (images: readonly MadeImage[]): readonly MadeImage[] => images.map((one) => (one === set.images.agent ? agent : one));
  const signedSet: ImageSet = {
    ...set,
    images: { ...set.images, agent },
    all: renamed(set.all),
    discovery: renamed(set.discovery),
    installed: renamed(set.installed),
  };
  const layout = await makeLayout(directory, { ...source, set: signedSet }, undefined);
  const messages = [await key.sign(agent.digest, `${repository}:v2.9`)];
  await addGpgSignatures(layout, [{ repository, subject: agent.digest, messages }]);
  return { layout, set: signedSet, publicKey: key.publicKey };
}

/** The same with an operating system, of which one layer is larger than what a node keeps of it in memory. */
async function makeSystemLayout(
  directory: string,
  source: Source,
  key: SigningKey | undefined,
): Promise<{ readonly layout: string; readonly system: string }> {
  const large = { kind: 'file', path: 'large', content: randomBytes(4 * 1024 * 1024).toString('hex') } as const;
  const layers = [await makeLayer(source.store, [large])];
  const system = await makeContainerImage(source.store, {
    name: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev',
    format: 'oci',
    layers,
    labels: { 'containers.bootc': '1' },
  });
  const { set } = source;
  const all = [...set.all, system];
  return {
    layout: await makeLayout(directory, { ...source, set: { ...set, all, installed: [...set.installed, system] } }, key),
    system: system.reference,
  };
}

/** What the prototype and the factory-precaching tool write, with the executable beside it. */
async function makeFolder(directory: string, set: ImageSet, executable: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  await execa('cp', ['-r', `${set.archives}/.`, directory]);
  await copyFile(executable, join(directory, 'prestage-agent'));
  return directory;
}
