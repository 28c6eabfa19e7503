import { randomBytes } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '../../host/exec.ts';
import { type AbsentInstance, platformText } from '../../model/absent-instances.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import type { ListedImage } from '../../model/image-list.ts';
import { type Descriptor, type ImageManifest, type IndexManifest, parseManifest } from '../../model/manifest.ts';
import { isForeignLayer, notImage, notImageError } from '../../model/manifest-content.ts';
import { formatReference, nameOf } from '../../model/reference.ts';
import { pullFailure } from '../shared/failures.ts';
import { inspectFlags, type PullSource, sourceEnv } from '../web/source.ts';

/** A manifest with its original bytes. */
export interface RawManifest {
  readonly digest: Digest;
  readonly bytes: Buffer;
  readonly manifest: ImageManifest | IndexManifest;
}

/** An image as a registry has it at one moment. It is then fetched by digest, even if its tag moves in the meantime. */
export interface ResolvedImage {
  readonly listed: ListedImage;
  /** Full reference; its name in an OCI image layout. */
  readonly reference: string;
  /** The manifest that the reference leads to: that of the list, if there is one. */
  readonly top: RawManifest;
  readonly mediaType: string;
  /** All manifests, top first, each once. */
  readonly manifests: readonly RawManifest[];
  /** Manifests that its list names and the registry does not have. */
  readonly absent: readonly AbsentInstance[];
  /** Configs and layers of all its platforms, each once; without layers that registries may not distribute. */
  readonly blobs: readonly Descriptor[];
}

export interface ResolveContext {
  readonly exec: Exec;
  readonly source: PullSource;
  /** Directory for temporary files. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  /** Returns a manifest that need not be fetched; its bytes match its digest. */
  readonly known: (digest: Digest) => Promise<Buffer | undefined>;
}

/** A manifest has a few KiB: a registry that has not sent it by then will not send it. */
const MANIFEST_LIMIT_MS = 120_000;

/**
 * Asks a registry for all manifests of an image, through skopeo.
 * @throws PrestageError ERR_PULL_*, ERR_MANIFEST, ERR_NOT_IMAGE
 */
export async function resolveImage(listed: ListedImage, context: ResolveContext): Promise<ResolvedImage> {
  const reference = formatReference(listed.reference);
  const get = async (digest: Digest | undefined): Promise<RawManifest> => {
    const bytes = (digest && (await context.known(digest))) ?? (await inspectRaw(listed, digest, context));
    const actual = digestOf(bytes);
    if (digest !== undefined && digest !== actual) {
      throw new PrestageError(
        'ERR_PULL_DIGEST',
        `${reference}: the registry sent the manifest ${actual} instead of ${digest}`,
        'Check for a proxy that changes data on its way from the registry, then pull again',
      );
    }
    return { digest: actual, bytes, manifest: parseManifest(bytes, `the manifest ${actual} of ${reference}`) };
  };
  const top = await get(listed.reference.digest);
  const none = top.manifest.kind === 'index' ? notImage(top.manifest) : undefined;
  if (none !== undefined) throw notImageError(listed.text, none);
  const manifests = new Map([[top.digest, top]]);
  const systems = new Map<Digest, string>();
  const absent = new Map<Digest, AbsentInstance>();
  let refusal: PrestageError | undefined;
  for (const instance of top.manifest.kind === 'index' ? top.manifest.instances : []) {
    const { digest } = instance;
    systems.set(digest, instance.os);
    if (manifests.has(digest) || absent.has(digest)) continue;
    try {
      const child = await get(digest);
      if (child.manifest.kind === 'index')
        throw new PrestageError('ERR_MANIFEST', `${reference}: its list names another list, ${digest}`, 'Take the image off the list');
      manifests.set(digest, child);
    } catch (error) {
      // A mirror may have only some platforms.
      if (!(error instanceof PrestageError) || error.code !== 'ERR_PULL_MISSING') throw error;
      refusal ??= error;
      absent.set(digest, { digest, platform: platformText(instance) });
    }
  }
  const all = [...manifests.values()];
  const images = all.filter(({ manifest }) => manifest.kind === 'image');
  if (images.length === 0 && refusal !== undefined) throw refusal;
  const others = images.flatMap(({ digest, manifest }) => notImage(manifest, systems.get(digest)) ?? []);
  const [what] = others;
  if (what !== undefined && others.length === images.length) throw notImageError(listed.text, what);
  return { listed, reference, top, mediaType: mediaTypeOf(top), manifests: all, absent: [...absent.values()], blobs: blobsOf(all) };
}

/** The bytes, through a file: text through a pipe would lose its last line end, which changes the digest. */
async function inspectRaw(listed: ListedImage, digest: Digest | undefined, context: ResolveContext): Promise<Buffer> {
  const { exec, source, signal } = context;
  const from = `docker://${digest === undefined ? formatReference(listed.reference) : `${nameOf(listed.reference)}@${digest}`}`;
  const file = join(context.scratch, `manifest-${randomBytes(8).toString('hex')}`);
  try {
    const skopeo = ['skopeo', 'inspect', '--raw', ...inspectFlags(source), from];
    const options = { signal, timeoutMs: MANIFEST_LIMIT_MS, env: sourceEnv(source) };
    const result = await exec('sh', ['-c', 'exec "$@" >"$0"', file, ...skopeo], options);
    if (result.exitCode === 0) return await readFile(file);
    if (result.exitCode > 128 && result.stderr.trim() === '') {
      throw pullFailure(listed.text, { ...result, stderr: `timeout awaiting its manifest for ${MANIFEST_LIMIT_MS / 1000} s` });
    }
    throw pullFailure(listed.text, result);
  } finally {
    await rm(file, { force: true });
  }
}

/** OCI manifests need not state their media type. */
function mediaTypeOf({ bytes, manifest }: RawManifest): string {
  const json: unknown = JSON.parse(bytes.toString('utf8'));
  if (typeof json === 'object' && json !== null && 'mediaType' in json && typeof json.mediaType === 'string' && json.mediaType !== '')
    return json.mediaType;
  return `application/vnd.oci.image.${manifest.kind === 'index' ? 'index' : 'manifest'}.v1+json`;
}

function blobsOf(manifests: readonly RawManifest[]): readonly Descriptor[] {
  const all = manifests.flatMap(({ manifest }) => (manifest.kind === 'image' ? [manifest.config, ...manifest.layers] : []));
  return [...new Map(all.filter(({ mediaType }) => !isForeignLayer(mediaType)).map((blob) => [blob.digest, blob])).values()];
}
