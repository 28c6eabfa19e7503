import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import { tarStream } from './tar.ts';

/**
 * An archive as the prototype makes it, with the real tools: an image of two real layers, `skopeo copy` from an OCI layout to `dir:`, and
 * GNU tar. Archives of different seeds have different content in the same sizes.
 * @param options of tar: its format, and how the directory is named
 */
export async function realArchive(
  work: string,
  name: string,
  seed: number,
  options: { readonly tar?: readonly string[]; readonly member?: string } = {},
): Promise<Buffer> {
  const oci = join(work, `oci-${seed}`);
  await writeOciLayout(oci, seed);
  const directory = join(work, name);
  await output(execOnLinux, 'skopeo', ['copy', '--quiet', '--preserve-digests', `oci:${oci}`, `dir:${directory}`]);
  const file = join(work, `${name}.made.tgz`);
  await output(execOnLinux, 'tar', ['czf', file, '--mtime=@0', '--sort=name', ...(options.tar ?? []), options.member ?? name], {
    cwd: work,
  });
  const bytes = await readFile(file);
  await Promise.all([oci, directory, file].map((path) => rm(path, { recursive: true })));
  return bytes;
}

async function writeOciLayout(directory: string, seed: number): Promise<void> {
  const contents = [40_000, 3000].map((size, index) => noise(size, seed * 100 + index));
  const tars = contents.map((content, index) => tarStream([{ name: `file-${index}`, content }]));
  const layers = tars.map((tar) => gzipSync(tar));
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: tars.map(digestOf) } }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: describe('application/vnd.oci.image.config.v1+json', config),
      layers: layers.map((layer) => describe('application/vnd.oci.image.layer.v1.tar+gzip', layer)),
    }),
  );
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  for (const blob of [...layers, config, manifest]) await writeFile(join(directory, 'blobs/sha256', hexOf(digestOf(blob))), blob);
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const index = { schemaVersion: 2, manifests: [describe('application/vnd.oci.image.manifest.v1+json', manifest)] };
  await writeFile(join(directory, 'index.json'), JSON.stringify(index));
}

/** Bytes that do not compress, the same at every run. */
function noise(size: number, seed: number): Buffer {
  const pieces: Buffer[] = [];
  for (let counter = 0; counter * 32 < size; counter++) pieces.push(Buffer.from(hexOf(digestOf(`${seed} ${counter}`)), 'hex'));
  return Buffer.concat(pieces).subarray(0, size);
}

function describe(mediaType: string, bytes: Buffer): object {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
