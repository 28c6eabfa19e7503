import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { runnableRoot } from './image-files.ts';
import { makeLayer } from './image-layer.ts';
import { type MadeImage, makeImage, writeDirLayout } from './images.ts';

/** Makes an image in which this machine's distribution runs as the release's registry component does: by /usr/bin/distribution. */
export async function makeRegistryImage(store: string, reference = { name: 'quay.io/example/registry', tag: 'v1' }): Promise<MadeImage> {
  const program = (await output(execOnLinux, 'sh', ['-c', 'command -v docker-registry || command -v registry'])).trim();
  const root = await runnableRoot([program.slice(program.lastIndexOf('/') + 1)]);
  const layer = await makeLayer(store, [...root, { kind: 'copy', path: 'usr/bin/distribution', from: program, mode: 0o755 }]);
  return await makeImage(store, { ...reference, format: 'oci', layers: [layer] });
}

/** A plain containers-storage at a path that holds images, as another process sees it who lists it as an additional image store. */
export async function makeImageStore(store: string, images: readonly MadeImage[], graphroot: string): Promise<string> {
  for (const [index, image] of images.entries()) {
    const layout = join(`${graphroot}.layouts`, String(index));
    await writeDirLayout(store, image, layout);
    const to = `containers-storage:[overlay@${graphroot}+${graphroot}.run]${image.reference}`;
    await output(execOnLinux, 'skopeo', ['copy', '-q', '--preserve-digests', `dir:${layout}`, to]);
  }
  await execOnLinux('umount', [join(graphroot, 'overlay')]);
  return graphroot;
}
