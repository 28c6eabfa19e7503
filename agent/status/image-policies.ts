import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { type Host, hostPath } from '../host/host.ts';
import { readConfiguration } from '../host/read-configuration.ts';
import { digestOf } from '../model/digest.ts';
import { errorRecord } from '../model/errors.ts';
import { openSigned } from '../signatures/gpg.ts';
import { type HeldSignature, type JudgeTools, judge } from '../signatures/judge.ts';
import { commonPolicy, namespacePolicies, PERSONAL_POLICY, POLICY_FILE } from '../signatures/node-policy.ts';
import { readClaim } from '../signatures/payload.ts';
import { type PolicyEntry, parsePolicy, policyEntryOf, type Requirement } from '../signatures/policy.ts';
import type { AcceptedSignature, PolicyFacts, PolicyVerdict } from './image-facts.ts';
import type { FoundSignatures, ShownByRegistry } from './image-shown.ts';
import { ASK_AS_ROOT, isDenied, look, type Unseen } from './look.ts';

const SIGN = 'Build the bundle from a pull with signatures (pull --signatures require), or pull from a source that has them';
const ALLOW = 'Allow the image in the policy, or use another image';
const LATER = 'Test it with a pull: podman pull';

/**
 * Checks an image against each policy that an engine of the node can follow.
 * @param shown the image as the first place that has it presents it, or why that is unknown
 */
export async function judgePolicies(host: Host, fullName: string, shown: ShownByRegistry | Unseen): Promise<readonly PolicyFacts[]> {
  const files = await look(async () => await policyFiles(host));
  if (files.kind === 'unseen') return [{ file: POLICY_FILE, engines: ['podman', 'CRI-O'], verdict: files }];
  return await Promise.all(files.value.map(async (one) => ({ ...one, ...(await judgeByFile(host, one.file, { fullName, shown })) })));
}

type PolicyFile = Pick<PolicyFacts, 'file' | 'engines' | 'namespace'>;

/** Source: containers-policy.json(5): a file in the user's home directory replaces the common one. */
async function policyFiles(host: Host): Promise<readonly PolicyFile[]> {
  const personal = await look(async () => await readConfiguration(host, PERSONAL_POLICY));
  const hasPersonal = personal.kind === 'unseen' || personal.value !== undefined;
  const file = (await commonPolicy(host)) ?? POLICY_FILE;
  const common: readonly PolicyFile[] = hasPersonal
    ? [
        { file: PERSONAL_POLICY, engines: ['podman'] },
        { file, engines: ['CRI-O'] },
      ]
    : [{ file, engines: ['podman', 'CRI-O'] }];
  const own = await namespacePolicies(host);
  return [...common, ...own.map((one): PolicyFile => ({ ...one, engines: ['CRI-O'] }))];
}

interface Judged {
  readonly fullName: string;
  readonly shown: ShownByRegistry | Unseen;
}

async function judgeByFile(host: Host, file: string, judged: Judged): Promise<Pick<PolicyFacts, 'scope' | 'verdict'>> {
  const found = await entryOf(host, file, judged.fullName);
  if (!('requirements' in found)) return { verdict: found };
  return { scope: found.scope, verdict: await judgeByEntry(host, found, judged) };
}

async function entryOf(host: Host, file: string, fullName: string): Promise<PolicyEntry | PolicyVerdict> {
  try {
    const text = await readConfiguration(host, file);
    if (text !== undefined) return policyEntryOf(parsePolicy(text, file), fullName);
    return { kind: 'refused', reason: 'the file does not exist, and without it engines refuse every pull', remedy: `Restore ${file}` };
  } catch (error) {
    if (isDenied(error)) return { kind: 'unseen', reason: `${file}: this user may not read it`, remedy: ASK_AS_ROOT };
    const { code, message, remedy } = errorRecord(error);
    if (code === 'ERR_INTERNAL') throw error;
    return { kind: 'refused', reason: message, remedy };
  }
}

async function judgeByEntry(host: Host, entry: PolicyEntry, { fullName, shown }: Judged): Promise<PolicyVerdict> {
  const { requirements } = entry;
  if (requirements.some(({ kind }) => kind === 'reject')) {
    return { kind: 'refused', reason: 'the policy rejects every image of this name', remedy: ALLOW };
  }
  const unknown = requirements.find((one) => one.kind === 'unknown');
  if (unknown !== undefined) {
    return { kind: 'unseen', reason: `the policy requires ${unknown.what}, which the agent cannot check`, remedy: LATER };
  }
  const demands = requirements.filter((one) => one.kind === 'signed');
  if (demands.length === 0) return { kind: 'accepted', signatures: [] };
  if ('kind' in shown) return shown;
  const accepted: AcceptedSignature[] = [];
  for (const demand of demands) {
    const found = shown.signatures[demand.by];
    if (found.kind === 'unseen') return found;
    if (found.kind === 'fault') return { ...found, kind: 'refused' };
    const met = await look(async () => await meet(host, { entry, demand, fullName, digest: shown.verified, held: found.held }));
    if (met.kind === 'unseen') return met;
    if (typeof met.value === 'string') return { kind: 'refused', reason: met.value, remedy: SIGN };
    accepted.push(met.value);
  }
  return { kind: 'accepted', signatures: accepted };
}

interface Demand {
  readonly entry: PolicyEntry;
  readonly demand: Extract<Requirement, { kind: 'signed' }>;
  readonly fullName: string;
  readonly digest: ShownByRegistry['verified'];
  readonly held: Extract<FoundSignatures, { kind: 'found' }>['held'];
}

/** The first signature that meets a requirement, or the reason why none does. */
async function meet(host: Host, { entry, demand, fullName, digest, held }: Demand): Promise<AcceptedSignature | string> {
  const tools = toolsOf(host);
  const only = { ...entry, requirements: [demand] };
  for (const one of held) {
    if ((await judge(only, { fullName, digest, signatures: [one] }, tools)).accepted) return await describe(one, demand, tools);
  }
  const verdict = await judge(only, { fullName, digest, signatures: held }, tools);
  return verdict.accepted ? '' : verdict.reason;
}

async function describe(one: HeldSignature, { by, keys }: Demand['demand'], tools: JudgeTools): Promise<AcceptedSignature> {
  const bytes = one.kind === 'sigstore' ? one.payload : one.message;
  const signed =
    one.kind === 'sigstore' ? bytes : await tools.openGpg(one.message, await Promise.all(keys.map(async (key) => await keyOf(key, tools))));
  const claim = typeof signed === 'string' ? signed : readClaim(signed, by);
  return { by, name: typeof claim === 'string' ? claim : claim.reference, digest: digestOf(bytes) };
}

async function keyOf(key: Demand['demand']['keys'][number], tools: JudgeTools): Promise<Buffer> {
  return 'data' in key ? key.data : await tools.readKey(key.path);
}

/** If this user may not read a key, the verdict is unknown. A missing key accepts no signature; engines behave the same. */
function toolsOf(host: Host): JudgeTools {
  return {
    readKey: async (path) =>
      await readFile(hostPath(host, path)).catch((error: unknown) => {
        if (isDenied(error)) throw error;
        return Buffer.alloc(0);
      }),
    openGpg: async (message, keys) => await openSigned(host.exec, tmpdir(), { message, keys }),
  };
}
