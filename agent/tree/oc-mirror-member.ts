import { BLOB_LIMIT_BYTES, checkWithin, type EntryHeader, innerComponents, plainType, type Refuse } from '../extract/entry-policy.ts';
import { type Digest, digestOfHex } from '../model/digest.ts';
import { TREE_ROOT } from '../model/registry-path.ts';

/** Kind of a member of an oc-mirror archive. Paths are relative to the root of the tree. */
export type OcMirrorMember =
  | { readonly kind: 'blob'; readonly digest: Digest }
  /** A link whose path says which digest it must hold. */
  | { readonly kind: 'link'; readonly path: string; readonly digest: Digest }
  /** The link of a tag: the only kind whose path does not determine its content. */
  | { readonly kind: 'tag'; readonly path: string }
  | { readonly kind: 'resource'; readonly resource: ResourceKind }
  /** A member that is not read. */
  | { readonly kind: 'other' };

/** `isc`: the ImageSetConfiguration of the run. */
export type ResourceKind = 'idms' | 'itms' | 'isc';

/** A link holds one digest, and a newline if an editor has added it. */
export const LINK_LIMIT_BYTES = 1024;
/** An IDMS with thousands of entries has about 100 KB. */
const RESOURCE_LIMIT_BYTES = 4 * 2 ** 20;

const WORKSPACE = 'working-dir';
/** `isc_` and the time of the run. Source: openshift/oc-mirror, internal/pkg/archive/const.go, imageSetConfigPrefix. */
const SET_CONFIGURATION = /^isc_[A-Za-z0-9:.+-]{1,64}$/;
const RESOURCE = /^working-dir\/cluster-resources\/(idms|itms)-oc-mirror\.ya?ml$/;

const HEX = '[0-9a-f]{64}';
/** Source: github.com/distribution/reference, "Grammar". */
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const TAG = '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}';
const BLOB = new RegExp(`^blobs/sha256/([0-9a-f]{2})/(${HEX})/data$`);
const REPOSITORY = new RegExp(`^repositories/(${COMPONENT}(?:/${COMPONENT})*)/(_layers|_manifests|_uploads)/(.+)$`);
const LINKED = {
  _layers: new RegExp(`^sha256/(${HEX})/link$`),
  _manifests: new RegExp(`^(?:revisions|tags/${TAG}/index)/sha256/(${HEX})/link$`),
} as const;
const CURRENT = new RegExp(`^tags/${TAG}/current/link$`);
/** Links to signatures of Docker schema 1, which are obsolete. */
const OLD_SIGNATURE = new RegExp(`^revisions/sha256/${HEX}/signatures/sha256/${HEX}/link$`);
/** Longest repository name that the grammar allows. */
const NAME_LIMIT = 255;

/**
 * Judges a member of an oc-mirror archive. Accepts regular files of distribution's tree, of oc-mirror's workspace and of its configuration, within
 * limits. Ignores directories. Pure.
 * Source: openshift/oc-mirror, internal/pkg/archive/archive.go, BuildArchive; distribution, registry/storage/paths.go.
 * @throws PrestageError ERR_ARCHIVE_NAME, _ABSOLUTE, _ESCAPE, _SYMLINK, _HARDLINK, _DEVICE, _FIFO, _TYPE, _SIZE, _OVERSIZE, ERR_MIRROR_LAYOUT
 */
export function judgeOcMirrorMember(header: EntryHeader, refuse: Refuse): OcMirrorMember {
  const path = innerComponents(header.name, refuse).join('/');
  const type = plainType(header, refuse);
  checkWithin(header.sizeBytes, BLOB_LIMIT_BYTES, refuse);
  if (type === 'directory') return { kind: 'other' };
  const member = memberAt(path);
  if (member === undefined) throw refuse('ERR_MIRROR_LAYOUT', 'belongs neither to a registry tree nor to the workspace of oc-mirror');
  if (member.kind === 'link' || member.kind === 'tag') checkWithin(header.sizeBytes, LINK_LIMIT_BYTES, refuse);
  if (member.kind === 'resource') checkWithin(header.sizeBytes, RESOURCE_LIMIT_BYTES, refuse);
  return member;
}

function memberAt(path: string): OcMirrorMember | undefined {
  if (path.startsWith(`${TREE_ROOT}/`)) return treeMember(path, path.slice(TREE_ROOT.length + 1));
  const resource = RESOURCE.exec(path)?.[1];
  if (resource === 'idms' || resource === 'itms') return { kind: 'resource', resource };
  if (path.startsWith(`${WORKSPACE}/`)) return { kind: 'other' };
  return SET_CONFIGURATION.test(path) ? { kind: 'resource', resource: 'isc' } : undefined;
}

function treeMember(path: string, below: string): OcMirrorMember | undefined {
  const [, start, hex = ''] = BLOB.exec(below) ?? [];
  const blob = digestOfHex(hex);
  if (blob !== undefined) return hex.startsWith(start ?? '-') ? { kind: 'blob', digest: blob } : undefined;
  const [, name = '', part, rest = ''] = REPOSITORY.exec(below) ?? [];
  if (name.length > NAME_LIMIT) return undefined;
  if (part === '_uploads') return { kind: 'other' };
  if (part !== '_layers' && part !== '_manifests') return undefined;
  const digest = digestOfHex(LINKED[part].exec(rest)?.[1] ?? '');
  if (digest !== undefined) return { kind: 'link', path, digest };
  if (part === '_layers') return undefined;
  if (CURRENT.test(rest)) return { kind: 'tag', path };
  return OLD_SIGNATURE.test(rest) ? { kind: 'other' } : undefined;
}
