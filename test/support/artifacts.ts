import { digestOf } from '../../agent/model/digest.ts';
import { type MadeLayer, makeLayer, writeBlob } from './image-layer.ts';
import { type MadeImage, makeImage } from './images.ts';

/** A Helm chart as `helm push` puts it into a registry. Source: helm.sh/docs, "Registries". */
export async function makeChart(store: string, reference: string): Promise<MadeImage> {
  return await makeArtifact(store, reference, {
    config: 'application/vnd.cncf.helm.config.v1+json',
    layer: 'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
  });
}

/** A manifest in the form of an image, with other types of config and layer. */
async function makeArtifact(
  store: string,
  reference: string,
  types: { readonly config: string; readonly layer: string },
): Promise<MadeImage> {
  const config = await writeBlob(store, JSON.stringify({ name: reference }));
  const content = `the content of ${reference}`;
  const layer: MadeLayer = {
    ...(await writeBlob(store, content)),
    diffId: digestOf(content),
    unpackedBytes: content.length,
    compression: 'gzip',
  };
  const manifest = await writeBlob(
    store,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: types.config, digest: config.digest, size: config.sizeBytes },
      layers: [{ mediaType: types.layer, digest: layer.digest, size: layer.sizeBytes }],
    }),
  );
  const instances = [{ architecture: 'amd64', manifest, config, layers: [layer] }];
  return { reference, digest: manifest.digest, kind: 'image', format: 'oci', manifest, instances };
}

/** An image for Windows as today's are: nothing but its config, or the list that names it, tells it from one for Linux. */
export async function makeWindowsImage(store: string, name: string): Promise<MadeImage> {
  const layer = await makeLayer(store, [{ kind: 'file', path: 'Files/hello.txt', content: `hello from ${name}` }]);
  return await makeImage(store, { name, tag: 'ltsc2022', format: 'docker', os: 'windows', layers: [layer] });
}
