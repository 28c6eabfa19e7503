import { type Digest, isDigest } from './digest.ts';
import { PrestageError } from './errors.ts';
import { quoteInput } from './faults.ts';

/**
 * An image reference, `registry/repository[:tag][@digest]`.
 * Source: github.com/distribution/reference, "Grammar", as implemented by containers/image (docker/reference, ParseNormalizedNamed), because
 * every reference becomes a name in containers-storage. Short Docker Hub forms are completed (`busybox` is `docker.io/library/busybox`). The
 * first component is a host only if it contains a dot or a colon, or is `localhost`. IPv6 hosts are refused. Digests are sha256 only.
 */
export interface Reference {
  /** Host with optional port. */
  readonly registry: string;
  /** Path within the registry, without tag and digest. */
  readonly repository: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const REGISTRY = new RegExp(`^${LABEL}(?:\\.${LABEL})*(?::[0-9]+)?$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
/** Container tools read 64 hex digits alone as the id of an image. */
const IMAGE_ID = /^[0-9a-f]{64}$/;
/** Longest name (registry and repository together) in the grammar, in characters. */
const NAME_LIMIT = 255;

/**
 * Parses one reference.
 * @throws PrestageError ERR_REFERENCE, which names the wrong part
 */
export function parseReference(text: string): Reference {
  const reference = readReference(text);
  if (typeof reference !== 'string') return reference;
  throw new PrestageError('ERR_REFERENCE', reference, 'Write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>');
}

/** The reference in a text, or a sentence that says why the text is not one: for inputs with many references. */
export function readReference(text: string): Reference | string {
  const parts = splitReference(text);
  const fault = faultOf(text, parts);
  if (fault !== undefined) return `${quoteInput(text)} is not an image reference: ${fault}`;
  const { registry, repository, tag, digest } = parts;
  return { registry, repository, ...(tag !== undefined && { tag }), ...(digest !== undefined && isDigest(digest) && { digest }) };
}

/** The reference in full, as containers-storage records it. A reference with neither tag nor digest means `latest`. */
export function formatReference(reference: Reference): string {
  const { digest } = reference;
  const tag = reference.tag ?? (digest === undefined ? 'latest' : undefined);
  return `${nameOf(reference)}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** Whether a reference names its registry. Without a registry, it means Docker Hub in a list, and is not a full name in a layout. */
export function hasRegistry(text: string): boolean {
  const first = text.slice(0, Math.max(text.indexOf('/'), 0));
  return first === 'localhost' || /[.:]/.test(first);
}

/** Registry and repository, without tag and digest. */
export function nameOf(reference: Reference): string {
  return `${reference.registry}/${reference.repository}`;
}

/**
 * The name of an image's archive without `.tgz`, and of its top directory: the last path component of the text in the list, with the first
 * `:` replaced by `_`. Registry and namespace are dropped, so two images can have the same name.
 * Source: docs/field-facts.md, "Archive"; openshift-kni/telco-ran-tools, cmd/download.go, parseMappingFile.
 */
export function archiveNameOf(listText: string): string {
  return listText.slice(listText.lastIndexOf('/') + 1).replace(':', '_');
}

interface Parts {
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  /** Everything after the first `@`. */
  readonly digest: string | undefined;
}

function splitReference(text: string): Parts {
  const [beforeDigest, digest] = cut(text, text.indexOf('@'));
  const [name, tag] = cut(beforeDigest, beforeDigest.indexOf(':', beforeDigest.lastIndexOf('/') + 1));
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const hasHost = hasRegistry(name);
  const registry = hasHost && first !== 'index.docker.io' ? first : 'docker.io';
  const path = hasHost ? name.slice(slash + 1) : name;
  return { registry, repository: registry === 'docker.io' && !path.includes('/') ? `library/${path}` : path, tag, digest };
}

function faultOf(text: string, { registry, repository, tag, digest }: Parts): string | undefined {
  if (IMAGE_ID.test(text)) return '64 hex digits alone are an image ID';
  if (digest !== undefined && !isDigest(digest)) return `${quoteInput(digest)} is not sha256:<64 lower-case hex digits>`;
  if (tag !== undefined && !TAG.test(tag)) return `${quoteInput(tag)} is not a tag`;
  if (!REGISTRY.test(registry)) return `${quoteInput(registry)} is not a registry host`;
  if (!REPOSITORY.test(repository)) return `${quoteInput(repository)} is not a repository path`;
  if (registry.length + repository.length + 1 > NAME_LIMIT) return `its name is longer than ${NAME_LIMIT} characters`;
  return undefined;
}

/** The text before and after the separator at the index; if the index is -1, there is nothing after it. */
function cut(text: string, index: number): readonly [string, string | undefined] {
  return index < 0 ? [text, undefined] : [text.slice(0, index), text.slice(index + 1)];
}
