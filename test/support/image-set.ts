import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cached } from './cache.ts';
import { writeArchives } from './image-archives.ts';
import { dealer, type MachineFile, machineFiles, placed, runnableRoot } from './image-files.ts';
import { CAP_NET_BIND_SERVICE, makeLayer, opaque, whiteout } from './image-layer.ts';
import { type MadeImage, makeImage, makeIndex } from './images.ts';

/** Real images in the folder that the prototype writes, kept between runs: read them, never write there. */
export interface ImageSet {
  /** Where the blobs lie (`blobs/sha256/…`); makeImage, writeDirLayout and the like take it. */
  readonly store: string;
  /** The prototype's folder: `ai-images.txt`, `ocp-images.txt`, `mapping.txt` and the archives. */
  readonly archives: string;
  readonly images: SmallImages;
  /** All images once. */
  readonly all: readonly MadeImage[];
  /** The list of the discovery stage, in order. */
  readonly discovery: readonly MadeImage[];
  /** The list of the installed stage, in order. */
  readonly installed: readonly MadeImage[];
}

/** The images of the small set, by what is special about each. The amd64 side of all of them runs `/bin/sh`. */
export interface SmallImages {
  /** A tag, Docker schema 2: the release image. */
  readonly release: MadeImage;
  /** A digest, Docker schema 2: whiteouts of a file and of a directory, and an opaque directory. */
  readonly whiteouts: MadeImage;
  /** A digest, Docker schema 2: hard links, symbolic links, a foreign owner, setuid, security.capability and user.* attributes. */
  readonly links: MadeImage;
  /** A digest, OCI: base, a middle layer that `zstd` has too, and a layer of its own. */
  readonly oci: MadeImage;
  /** A digest, OCI: its own layer is zstd. mapping.txt gives it a tag as well. */
  readonly zstd: MadeImage;
  /** The digest of a Docker manifest list: amd64 and arm64. */
  readonly otherArchitecture: MadeImage;
  /** A tag on an OCI index: amd64 and arm64. */
  readonly indexByTag: MadeImage;
  /** A tag, OCI. */
  readonly agent: MadeImage;
}

const COMPONENT = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const MIB = 1024 * 1024;

/** The tag that mapping.txt gives to `zstd`. */
export const MAPPED_TAG = '4.14.0-x86_64-pod';

/** Eight images of a few MB over one base, made of this machine's own files. Takes some seconds once. */
export async function smallImageSet(): Promise<ImageSet> {
  const directory = await cached({ name: 'images', makers: await makers() }, async (store) => {
    const images = await makeSmallImages(store);
    const { discovery, installed } = listsOf(images);
    await writeArchives(store, join(store, 'archives'), {
      lists: { 'ai-images.txt': discovery, 'ocp-images.txt': installed },
      mapping: [`${images.zstd.reference}=registry.example.com:5000/ocp4/openshift4:${MAPPED_TAG}`],
    });
    await writeFile(join(store, 'set.json'), JSON.stringify(images));
  });
  const images: SmallImages = JSON.parse(await readFile(join(directory, 'set.json'), 'utf8'));
  return { store: directory, archives: join(directory, 'archives'), images, ...listsOf(images) };
}

/** The files that decide what fixtures look like. */
export async function makers(): Promise<readonly string[]> {
  const names = (await readdir(import.meta.dirname)).filter((name) => name.startsWith('image') || name === 'cache.ts').sort();
  return names.map((name) => join(import.meta.dirname, name));
}

function listsOf(images: SmallImages): Pick<ImageSet, 'all' | 'discovery' | 'installed'> {
  const { release, whiteouts, links, oci, zstd, otherArchitecture, indexByTag, agent } = images;
  return {
    all: [indexByTag, agent, release, whiteouts, links, oci, zstd, otherArchitecture],
    discovery: [indexByTag, agent, release, whiteouts, links, zstd, otherArchitecture],
    installed: [release, whiteouts, links, oci, zstd, otherArchitecture],
  };
}

async function makeSmallImages(store: string): Promise<SmallImages> {
  const deal = dealer(await machineFiles(['/usr/bin', '/usr/sbin'], isSmallProgram));
  const own = (name: string, mib: number) => [
    { kind: 'file', path: 'etc/prestage-image', content: `${name}\n` } as const,
    ...placed(deal(mib * MIB), `opt/${name}`),
  ];
  const base = await makeLayer(store, [
    ...(await runnableRoot(['sh', 'cat', 'ls', 'id', 'stat', 'sha256sum', 'sleep'])),
    { kind: 'directory', path: 'etc/conf.d' },
    { kind: 'file', path: 'etc/conf.d/10-base.conf', content: 'from=base\n' },
    { kind: 'file', path: 'etc/removed-later', content: 'a lower layer has this\n' },
    { kind: 'directory', path: 'srv' },
    { kind: 'directory', path: 'srv/gone' },
    { kind: 'file', path: 'srv/gone/file', content: 'a lower layer has this\n' },
  ]);
  const middle = await makeLayer(store, placed(deal(4 * MIB), 'opt/middle'));
  const foreign = await makeLayer(store, [
    { kind: 'file', path: 'etc/prestage-image', content: 'arm64\n' },
    ...placed(deal(MIB), 'opt/arm64'),
  ]);

  const release = await makeLayer(store, own('release', 1));
  const whiteouts = await makeLayer(store, [
    ...own('whiteouts', 1),
    whiteout('etc/removed-later'),
    whiteout('srv/gone'),
    opaque('etc/conf.d'),
    { kind: 'file', path: 'etc/conf.d/20-own.conf', content: 'from=own\n' },
  ]);
  const links = await makeLayer(store, [
    ...own('links', 1),
    { kind: 'file', path: 'opt/original', content: 'one inode\n', xattrs: { 'user.prestage': 'kept' } },
    { kind: 'hardlink', path: 'opt/hard', target: 'opt/original' },
    { kind: 'symlink', path: 'opt/soft', target: 'original' },
    { kind: 'file', path: 'opt/capable', content: '#!/bin/sh\n', mode: 0o755, xattrs: { 'security.capability': CAP_NET_BIND_SERVICE } },
    { kind: 'file', path: 'opt/setuid', content: '#!/bin/sh\n', mode: 0o4755, owner: 1000 },
  ]);
  const oci = await makeLayer(store, own('oci', 3));
  const zstd = await makeLayer(store, own('zstd', 2), 'zstd');
  const otherArchitecture = await makeLayer(store, own('other-architecture', 1));
  const indexByTag = await makeLayer(store, own('index-by-tag', 2));
  const agent = await makeLayer(store, own('agent', 1));

  const component = { name: COMPONENT, format: 'docker' } as const;
  const troubleshoot = { name: 'quay.io/example/troubleshoot', format: 'oci' } as const;
  return {
    release: await makeImage(store, {
      name: 'quay.io/openshift-release-dev/ocp-release',
      tag: '4.14.0-x86_64',
      format: 'docker',
      layers: [base, release],
    }),
    whiteouts: await makeImage(store, { ...component, layers: [base, whiteouts] }),
    links: await makeImage(store, { ...component, layers: [base, links] }),
    oci: await makeImage(store, { ...component, format: 'oci', layers: [base, middle, oci] }),
    zstd: await makeImage(store, { ...component, format: 'oci', layers: [base, middle, zstd] }),
    otherArchitecture: await makeIndex(store, {
      ...component,
      instances: [
        await makeImage(store, { ...component, architecture: 'arm64', layers: [foreign] }),
        await makeImage(store, { ...component, layers: [base, otherArchitecture] }),
      ],
    }),
    indexByTag: await makeIndex(store, {
      ...troubleshoot,
      tag: 'latest',
      instances: [
        await makeImage(store, { ...troubleshoot, layers: [base, indexByTag] }),
        await makeImage(store, { ...troubleshoot, architecture: 'arm64', layers: [foreign] }),
      ],
    }),
    agent: await makeImage(store, {
      name: 'quay.io/edge-infrastructure/assisted-installer-agent',
      tag: 'latest',
      format: 'oci',
      layers: [base, agent],
    }),
  };
}

function isSmallProgram(file: MachineFile): boolean {
  return file.sizeBytes > 1024 && file.sizeBytes < MIB;
}
