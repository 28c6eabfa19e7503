import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseReference } from '../../agent/model/reference.ts';
import type { MadeImage } from '../support/images.ts';
import { type MirroredImage, writeMirror } from '../support/mirror-archives.ts';
import type { Source } from './factory.ts';

const VERSION = '4.14.0-x86_64';
/** More than one, so that images lie in several. */
const ARCHIVES = 3;

/** Where oc-mirror keeps a release; all else lies under the path of its source. Source: openshift/oc-mirror, internal/pkg/release. */
const RELEASE: Readonly<Record<string, string>> = {
  'openshift-release-dev/ocp-release': 'openshift/release-images',
  'openshift-release-dev/ocp-v4.0-art-dev': 'openshift/release',
};

/** As oc-mirror writes them when it fills a registry: by digest the release, by tag the rest. */
const MIRROR_SETS = {
  'idms-oc-mirror.yaml': `apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: idms-release-0}
spec:
  imageDigestMirrors:
  - {mirrors: ["localhost:55000/openshift/release"], source: quay.io/openshift-release-dev/ocp-v4.0-art-dev}
  - {mirrors: ["localhost:55000/openshift/release-images"], source: quay.io/openshift-release-dev/ocp-release}
`,
  'itms-oc-mirror.yaml': `apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {name: itms-generic-0}
spec:
  imageTagMirrors:
  - {mirrors: ["localhost:55000/edge-infrastructure"], source: quay.io/edge-infrastructure}
  - {mirrors: ["localhost:55000/example"], source: quay.io/example}
`,
};

/** The images as oc-mirror brings them to a disk: archives, and the mirror sets beside them. The registry is the release's own component. */
export async function writeMirrorFolder(directory: string, { store, set, registry }: Source): Promise<void> {
  const images = Object.entries(set.images).map(([name, image]) => mirrored(name, image));
  const component: MirroredImage = { repository: 'openshift/release', tag: `${VERSION}-docker-registry`, image: registry };
  await writeMirror(directory, { store, images: [...images, component], archives: ARCHIVES });
  const resources = join(directory, 'working-dir/cluster-resources');
  await mkdir(resources, { recursive: true });
  for (const [name, text] of Object.entries(MIRROR_SETS)) await writeFile(join(resources, name), text);
}

/** @param name of the image in the set, which a component of a release has in its tag */
function mirrored(name: string, image: MadeImage): MirroredImage {
  const { repository, tag = `${VERSION}-${name.toLowerCase()}` } = parseReference(image.reference);
  return { repository: RELEASE[repository] ?? repository, tag, image };
}
