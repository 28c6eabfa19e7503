import { type Digest, isDigest } from './digest.ts';
import { PrestageError } from './errors.ts';

/**
 * An image reference, `registry/repository[:tag][@digest]`.
 * Source: github.com/distribution/reference, "Grammar"; the short Docker Hub forms are completed
 * (`busybox` is `docker.io/library/busybox`), as containers/image does.
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
const REGISTRY =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
/** Longest name (registry and repository together) that the grammar allows. */
const NAME_LIMIT = 255;

/**
 * Parses one reference.
 * @throws PrestageError ERR_REFERENCE, naming the part that is wrong.
 */
export function parseReference(text: string): Reference {
  const [beforeDigest = '', digest, ...rest] = text.split('@');
  if (rest.length > 0) throw refused(text, 'it has more than one "@"');
  if (digest !== undefined && !isDigest(digest)) {
    throw refused(text, `"${digest}" is not sha256: and 64 lower-case hex digits`);
  }
  const slash = beforeDigest.lastIndexOf('/');
  const colon = beforeDigest.indexOf(':', slash + 1);
  const name = colon < 0 ? beforeDigest : beforeDigest.slice(0, colon);
  const tag = colon < 0 ? undefined : beforeDigest.slice(colon + 1);
  if (tag !== undefined && !TAG.test(tag)) throw refused(text, `"${tag}" is not a tag`);
  const { registry, repository } = splitName(name);
  if (!REGISTRY.test(registry)) throw refused(text, `"${registry}" is not a registry host`);
  if (!REPOSITORY.test(repository)) throw refused(text, `"${repository}" is not a repository path`);
  if (registry.length + repository.length + 1 > NAME_LIMIT) throw refused(text, `its name is longer than ${NAME_LIMIT} characters`);
  return { registry, repository, ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) };
}

/** The reference in full, as containers-storage records it. A reference with neither tag nor digest means `latest`. */
export function formatReference(reference: Reference): string {
  const { digest } = reference;
  const tag = reference.tag ?? (digest === undefined ? 'latest' : undefined);
  return `${nameOf(reference)}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** Registry and repository, without tag and digest. */
export function nameOf(reference: Reference): string {
  return `${reference.registry}/${reference.repository}`;
}

/**
 * The name of an image's archive without `.tgz`, and of its top directory: the last path component of the text as the list
 * has it, with the first `:` turned into `_`. Registry and namespace are dropped, so two images can have one name.
 * Source: field facts, "Archive"; the prototype's `basename ${uri/:/_}`.
 */
export function archiveNameOf(listText: string): string {
  return listText.slice(listText.lastIndexOf('/') + 1).replace(':', '_');
}

function splitName(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = slash < 0 ? '' : name.slice(0, slash);
  const hasHost = first === 'localhost' || first.includes('.') || first.includes(':') || first !== first.toLowerCase();
  if (!hasHost) return { registry: 'docker.io', repository: slash < 0 ? `library/${name}` : name };
  const repository = name.slice(slash + 1);
  return { registry: first, repository: first === 'docker.io' && !repository.includes('/') ? `library/${repository}` : repository };
}

function refused(text: string, why: string): PrestageError {
  return new PrestageError(
    'ERR_REFERENCE',
    `"${text}" is not an image reference: ${why}`,
    'Write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>',
  );
}
