import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { BUNDLE_FILE, type Bundle, type BundlePayload, formatBundle } from '../../agent/model/bundle.ts';
import type { Stage } from '../../agent/model/stage.ts';
import { type MadeImage, writeOciLayout } from './images.ts';

/** A bundle sealed by hand, so that the node's side is tested without the factory's. */
export interface HandSealed {
  readonly directory: string;
  /** Of prestage.json. */
  readonly sha256: string;
}

export interface SealRequest {
  readonly directory: string;
  readonly stage: Stage;
  readonly images: readonly MadeImage[];
  readonly payloads: readonly BundlePayload[];
}

/** Puts images as one OCI layout into DIRECTORY/oci and seals the whole. */
export async function sealLayout(store: string, request: Omit<SealRequest, 'payloads'>): Promise<HandSealed> {
  await mkdir(request.directory, { recursive: true });
  await writeOciLayout(store, request.images, join(request.directory, 'oci'));
  return await seal({ ...request, payloads: [{ kind: 'oci', path: 'oci' }] });
}

/** Writes prestage.json over what lies in the directory. */
export async function seal(request: SealRequest): Promise<HandSealed> {
  const { directory, stage, payloads } = request;
  const images = request.images.map((image) => {
    const [instance] = image.instances;
    const layers = [...new Map((instance?.layers ?? []).map((layer) => [layer.digest, layer])).values()];
    return {
      reference: image.reference,
      names: [image.reference],
      manifestDigest: image.digest,
      compressedBytes: layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
      unpackedBytes: layers.reduce((sum, layer) => sum + layer.unpackedBytes, 0),
    };
  });
  const bundle: Bundle = {
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '4.14.0',
    architecture: 'amd64',
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: { name: 'test', version: '0' },
    stages: { [stage]: { images } },
    payloads: [...payloads],
    files: await filesBelow(directory),
  };
  const text = formatBundle(bundle);
  await writeFile(join(directory, BUNDLE_FILE), text);
  return { directory, sha256: createHash('sha256').update(text).digest('hex') };
}

async function filesBelow(directory: string): Promise<Bundle['files']> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => relative(directory, join(entry.parentPath, entry.name)));
  const files = await Promise.all(
    paths
      .filter((path) => path !== BUNDLE_FILE)
      .map(async (path) => {
        const bytes = await readFile(join(directory, path));
        return { path, sizeBytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
      }),
  );
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
