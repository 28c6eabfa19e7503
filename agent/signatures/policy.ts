import * as v from 'valibot';
import { parseDocument } from 'yaml';
import { PrestageError } from '../model/errors.ts';
import { listFaults, schemaFaults } from '../model/faults.ts';

/**
 * A requirement of an engine before it accepts an image. Source for this file: containers-policy.json(5) and containers/image,
 * signature/policy_config.go and policy_config_sigstore.go.
 */
export type Requirement =
  | { readonly kind: 'accept' }
  | { readonly kind: 'reject' }
  | { readonly kind: 'signed'; readonly by: 'sigstore' | 'gpg'; readonly keys: readonly PolicyKey[]; readonly identity: SignedIdentity }
  /** Something that the agent cannot check: Fulcio, PKI, base layers, or a type of a later release. */
  | { readonly kind: 'unknown'; readonly what: string; readonly by: 'sigstore' | 'gpg' };

/** A public key: its bytes, or its file on the node. */
export type PolicyKey = { readonly data: Buffer } | { readonly path: string };

/** How the signed name must match the name that is pulled. */
export type SignedIdentity =
  | { readonly kind: 'matchExact' | 'matchRepoDigestOrExact' | 'matchRepository' }
  | { readonly kind: 'exactReference' | 'exactRepository'; readonly name: string }
  | { readonly kind: 'remapIdentity'; readonly prefix: string; readonly signedPrefix: string };

/** The part of a policy that applies to images of registries. */
export interface Policy {
  /** File of the policy, for messages. */
  readonly file: string;
  readonly default: readonly Requirement[];
  /** Requirements by scope: a reference, repository, namespace or host; `*.` and a domain; or empty for all registries. */
  readonly scopes: ReadonlyMap<string, readonly Requirement[]>;
}

/** The policy entry that applies to an image. */
export interface PolicyEntry {
  readonly file: string;
  /** As in the policy; `default` if no scope matches. */
  readonly scope: string;
  readonly requirements: readonly Requirement[];
}

const text = v.pipe(v.string(), v.nonEmpty('is empty'));
const base64 = v.pipe(
  text,
  v.base64('is not base64'),
  v.transform((encoded) => Buffer.from(encoded, 'base64')),
);
const identitySchema = v.pipe(
  v.variant('type', [
    v.object({ type: v.literal('matchExact') }),
    v.object({ type: v.literal('matchRepoDigestOrExact') }),
    v.object({ type: v.literal('matchRepository') }),
    v.object({ type: v.literal('exactReference'), dockerReference: text }),
    v.object({ type: v.literal('exactRepository'), dockerRepository: text }),
    v.object({ type: v.literal('remapIdentity'), prefix: text, signedPrefix: text }),
  ]),
  v.transform((identity): SignedIdentity => {
    switch (identity.type) {
      case 'exactReference':
        return { kind: identity.type, name: identity.dockerReference };
      case 'exactRepository':
        return { kind: identity.type, name: identity.dockerRepository };
      case 'remapIdentity':
        return { kind: identity.type, prefix: identity.prefix, signedPrefix: identity.signedPrefix };
      case 'matchExact':
      case 'matchRepoDigestOrExact':
      case 'matchRepository':
        return { kind: identity.type };
    }
  }),
);
const keyFields = {
  keyPath: v.exactOptional(text),
  keyPaths: v.exactOptional(v.array(text)),
  keyData: v.exactOptional(base64),
  keyDatas: v.exactOptional(v.array(base64)),
  signedIdentity: v.optional(identitySchema, { type: 'matchRepoDigestOrExact' }),
};
const requirementSchema = v.pipe(
  v.looseObject({ type: text, ...keyFields }),
  v.rawTransform(({ dataset, addIssue, NEVER }): Requirement => {
    const { type, keyPath, keyPaths = [], keyData, keyDatas = [], signedIdentity } = dataset.value;
    const keys: PolicyKey[] = [
      ...[...(keyPath === undefined ? [] : [keyPath]), ...keyPaths].map((path) => ({ path })),
      ...[...(keyData === undefined ? [] : [keyData]), ...keyDatas].map((data) => ({ data })),
    ];
    if (type === 'insecureAcceptAnything') return { kind: 'accept' };
    if (type === 'reject') return { kind: 'reject' };
    if (type !== 'signedBy' && type !== 'sigstoreSigned') return { kind: 'unknown', what: type, by: 'gpg' };
    const by = type === 'signedBy' ? ('gpg' as const) : ('sigstore' as const);
    const other = ['fulcio', 'pki', 'rekorPublicKeyPath', 'rekorPublicKeyPaths', 'rekorPublicKeyData', 'rekorPublicKeyDatas'];
    const unchecked = other.find((name) => name in dataset.value);
    if (by === 'sigstore' && unchecked !== undefined) return { kind: 'unknown', what: `${type} with ${unchecked}`, by };
    if (keys.length > 0) return { kind: 'signed', by, keys, identity: signedIdentity };
    addIssue({ message: `${type} has no key` });
    return NEVER;
  }),
);
const requirements = v.pipe(v.array(requirementSchema), v.minLength(1, 'has no requirement'));
/** Engines refuse other keys and duplicate keys. */
const policySchema = v.strictObject({
  default: requirements,
  transports: v.optional(v.record(v.string(), v.record(v.string(), v.unknown())), {}),
});

/**
 * Reads a policy.json. Ignores transports other than `docker`, because they do not concern registries.
 * @param file its path, for messages
 * @throws PrestageError ERR_POLICY_FILE with every fault and its place
 */
export function parsePolicy(content: string, file: string): Policy {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), policySchema), content);
  if (!parsed.success) throw unreadable(file, schemaFaults(parsed.issues));
  const repeated = repeatedKeys(content);
  if (repeated.length > 0) throw unreadable(file, repeated);
  const scopes = v.safeParse(v.record(v.string(), requirements), parsed.output.transports.docker ?? {});
  if (!scopes.success)
    throw unreadable(
      file,
      schemaFaults(scopes.issues).map((fault) => `transports.docker.${fault}`),
    );
  return { file, default: parsed.output.default, scopes: new Map(Object.entries(scopes.output)) };
}

/** JSON.parse silently uses the last of duplicate keys. JSON is also YAML, whose parser reports duplicates. Source: YAML 1.2, section 1.3. */
function repeatedKeys(content: string): readonly string[] {
  const { errors } = parseDocument(content, { uniqueKeys: true, prettyErrors: true });
  const repeated = errors.filter(({ code }) => code === 'DUPLICATE_KEY');
  return repeated.map(({ linePos }) => `line ${linePos?.[0].line}: duplicate key`);
}

/**
 * The entry that applies to an image: that of the longest matching scope, else that for all registries, else the default.
 * Source: containers-policy.json(5), "docker:"; containers/image, docker/policyconfiguration.
 * @param fullName with tag or digest, such as `quay.io/a/b@sha256:…`
 */
export function policyEntryOf(policy: Policy, fullName: string): PolicyEntry {
  const scope = scopesOf(fullName).find((candidate) => policy.scopes.has(candidate));
  const found = scope === undefined ? undefined : policy.scopes.get(scope);
  if (scope === undefined || found === undefined) return { file: policy.file, scope: 'default', requirements: policy.default };
  return { file: policy.file, scope, requirements: found };
}

/** Every scope that covers an image, the most precise first. */
function scopesOf(fullName: string): readonly string[] {
  const repository = repositoryOf(fullName);
  const parts = repository.split('/');
  const above = parts.map((_, index) => parts.slice(0, parts.length - index).join('/'));
  const labels = (parts[0] ?? '').split('.');
  const wildcards = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`);
  return [fullName, ...above, ...wildcards, ''];
}

/** A name without tag and digest. */
export function repositoryOf(fullName: string): string {
  const [name = ''] = fullName.split('@', 1);
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1);
  return colon < 0 ? name : name.slice(0, colon);
}

function unreadable(file: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_POLICY_FILE',
    listFaults(
      `${file} is not a signature policy`,
      faults.map((fault) => `${file}: ${fault}`),
    ),
    'Correct the file, which the engines of this node cannot read either; see containers-policy.json(5)',
  );
}
