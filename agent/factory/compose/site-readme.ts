import type { Bundle, BundlePayload } from '../../model/bundle.ts';
import { formatBytes } from '../../model/bytes.ts';
import { STAGES } from '../../model/stage.ts';

/** README.txt of a bundle: for the person who finds this partition at the site. The same bundle gives the same text. Pure. */
export function siteReadme(
  bundle: Pick<Bundle, 'release' | 'architecture' | 'createdBy' | 'stages' | 'payloads'>,
  agents: readonly string[],
): string {
  const stages = STAGES.flatMap((stage) => {
    const images = bundle.stages[stage]?.images;
    if (images === undefined) return [];
    const bytes = images.reduce((total, image) => total + image.compressedBytes, 0);
    return [`  ${stage.padEnd(10)} ${images.length} images, ${formatBytes(bytes)} compressed`];
  });
  return `${[
    'Container images for an OpenShift node, prestaged',
    '=================================================',
    '',
    `Release ${bundle.release || 'not known'}, ${bundle.architecture}, made by ${bundle.createdBy.name} ${bundle.createdBy.version}.`,
    '',
    'The node reads this partition when it boots, so that its images need not come over the network.',
    'Please do not change, add or remove any file: all files are checked against prestage.json.',
    '',
    'Stages',
    ...stages,
    '',
    'Contents',
    '  prestage.json  what this bundle holds, with the size and sha256 of every file',
    ...agents.map((path) => `  ${path}  the program that the node runs`),
    ...bundle.payloads.map((payload) => `  ${payloadText(payload)}`),
    '',
    'On the node, as root',
    '  prestage-agent status                       what was loaded, what was not, and what to do next',
    '  prestage-agent run --stage installed        load what is missing',
    '',
    'In this folder',
    '  ./prestage-agent verify . --full            read every byte and compare it with prestage.json',
    '  ./prestage-agent run --help                 how to load from this folder: --bundle DIR',
    '',
    'docs/errors.md of the project explains the error codes; every message ends with the next step.',
  ].join('\n')}\n`;
}

function payloadText(payload: BundlePayload): string {
  switch (payload.kind) {
    case 'archives':
      return `${payload.path}/  one .tgz per image, and the image lists`;
    case 'oci':
      return `${payload.path}/  all images as one OCI image layout`;
    case 'registry':
      return `${payload.path}/  all images as the storage of a registry`;
    case 'store':
      return `${payload.image}  all images of the stage ${payload.stage}, unpacked, to be mounted; with ${payload.verity.hashTree} and ${payload.mirror}/${payload.osTree === undefined ? '' : `; ${payload.osTree}/ serves the operating system`}`;
  }
}
