import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { parseRunState } from '../../agent/model/run-state.ts';
import { verifyImages } from '../power/verify-node.ts';
import { listOf, runBuild } from '../support/build.ts';
import { builtExecutable } from '../support/executable.ts';
import { type MadeImage, writeDirLayout, writeOciLayout } from '../support/images.ts';
import { type AgentEnd, type MountNode, openMountNode } from '../support/mount-node.ts';
import { makeTinyBundle } from '../support/tiny-bundle.ts';
import { type Call, callErrors, callsEnv, type Fault, failingCalls, faultText } from './calls.ts';

/** Arguments of a run in which things fail, the bundle's directory left out. */
export interface FaultScenario {
  readonly name: string;
  readonly args: readonly string[];
}

export const faultScenarios: readonly FaultScenario[] = [
  { name: 'extract', args: ['--stage', 'installed', '--delivery', 'extract'] },
  { name: 'mount', args: ['--stage', 'installed', '--delivery', 'mount', '--placement', 'disk'] },
];

/** A bundle of two images of some KB, and an image that the node has already. */
export interface FaultFixture extends AsyncDisposable {
  readonly work: string;
  readonly executable: string;
  readonly library: string;
  readonly bundle: string;
  readonly images: readonly MadeImage[];
  /** As `dir:` layout. */
  readonly own: string;
}

const OWN = 'localhost/own:v1';
/** A run that takes longer than this hangs. */
const LIMIT_MS = 60_000;

export async function makeFaultFixture(): Promise<FaultFixture> {
  const executable = await builtExecutable();
  const work = await mkdtemp('/tmp/faults-');
  const { store, images } = await makeTinyBundle(work, 3);
  const [own, ...others] = images;
  assert.ok(own);
  const [pulled, bundle, ownDirectory] = [join(work, 'pulled'), join(work, 'sealed'), join(work, 'own')];
  await mkdir(pulled);
  await writeDirLayout(store, own, ownDirectory);
  await writeOciLayout(store, others, pulled);
  await writeFile(join(pulled, 'ocp-images.txt'), listOf(others));
  await runBuild({ from: pulled, to: bundle, payloads: ['oci', 'store'] });
  return {
    work,
    executable,
    library: await failingCalls(),
    bundle,
    images: others,
    own: ownDirectory,
    [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }),
  };
}

/** A node on which nothing has run, with an image of its own. */
async function openNode(fixture: FaultFixture): Promise<MountNode> {
  const node = await openMountNode(fixture);
  await node.output('skopeo', ['copy', '--quiet', `dir:${fixture.own}`, `containers-storage:${OWN}`]);
  return node;
}

/** What of a node a run must leave as it is, whatever fails. */
async function belongings(node: MountNode): Promise<unknown> {
  const { exitCode, stderr } = await node.exec('sh', ['-c', `rm -rf /run/own; skopeo copy --quiet containers-storage:${OWN} dir:/run/own`]);
  assert.equal(exitCode, 0, `the image that the node had is lost: ${stderr}`);
  const files = ['policy.json', 'registries.conf', 'storage.conf', 'containers.conf'].map((name) => `/etc/containers/${name}`);
  return await Promise.all(files.map(async (path) => await readFile(node.path(path), 'utf8')));
}

/** Everything that a run can read or write; what it is made of lies elsewhere. */
function below({ bundle }: FaultFixture): readonly string[] {
  return ['/var/lib/', '/var/tmp/', '/run/', '/etc/', bundle];
}

/** The run under a fault; all calls succeed, and are told in the log, where nth is 0. */
async function runUnder(
  node: MountNode,
  fixture: FaultFixture,
  { args }: FaultScenario,
  fault: Fault | undefined,
): Promise<AgentEnd & { readonly told: readonly string[] }> {
  const bench = await mkdtemp(join(fixture.work, 'fault-'));
  const log = join(bench, 'log');
  const env = fault === undefined ? {} : await faultEnv(fault, fixture, { bench, log });
  const words = Object.entries({ PRESTAGE_POLICY: 'closed', ...env }).map(([name, value]) => `${name}=${value}`);
  const command = [...words, fixture.executable, 'run', ...args, '--bundle', fixture.bundle, '--retries', '0', '--output', 'json'];
  const ended = await node.exec('env', command, { timeoutMs: LIMIT_MS });
  const told = (await readFile(log, 'utf8').catch(() => '')).split('\n').filter((line) => line !== '');
  await rm(bench, { recursive: true });
  return { ...ended, told };
}

async function faultEnv(fault: Fault, fixture: FaultFixture, { bench, log }: { readonly bench: string; readonly log: string }) {
  if (fault.kind === 'call') return callsEnv({ ...fault, library: fixture.library, below: below(fixture), log });
  const real = (await output(execOnLinux, 'sh', ['-c', 'command -v -- "$1"', 'sh', fault.program])).trim();
  const script = `#!/bin/sh
echo '${fault.program}' >>'${log}.all'
[ "$(wc -l <'${log}.all')" -eq ${fault.nth} ] || exec '${real}' "$@"
echo '${fault.program}' >>'${log}'
echo '${fault.program}: input/output error (it stands in for one that fails)' >&2
exit 32
`;
  await writeFile(join(bench, fault.program), script, { mode: 0o755 });
  return { PATH: `${bench}:${process.env.PATH ?? ''}` };
}

/** All faults that a run of the scenario can meet: how often it does what. */
export async function faultsOf(fixture: FaultFixture, scenario: FaultScenario): Promise<readonly Fault[]> {
  const faults: Fault[] = [];
  for (const [call, errors] of Object.entries(callErrors)) {
    if (!isCall(call)) continue;
    await using node = await openNode(fixture);
    const { told, exitCode, stderr } = await runUnder(node, fixture, scenario, { kind: 'call', call, nth: 0, errno: 0 });
    assert.equal(exitCode, 0, stderr);
    faults.push(...told.map((_, index): Fault => ({ kind: 'call', call, nth: index + 1, errno: errors[index % errors.length] ?? 0 })));
    if (call === 'exec') faults.push(...programFaults(told.map((line) => line.split(' ')[1] ?? '')));
  }
  return faults;
}

function isCall(name: string): name is Call {
  return Object.hasOwn(callErrors, name);
}

/** The first, second… start of each program. Pure. */
function programFaults(programs: readonly string[]): readonly Fault[] {
  return programs.flatMap((program, index): readonly Fault[] =>
    program.includes('/') ? [] : [{ kind: 'program', program, nth: programs.slice(0, index + 1).filter((one) => one === program).length }],
  );
}

/**
 * Has one thing fail in a run, looks at what the run says and leaves, and runs again.
 * @returns what failed; undefined where the run did not come to it this time
 */
export async function tryFault(fixture: FaultFixture, scenario: FaultScenario, fault: Fault): Promise<string | undefined> {
  await using node = await openNode(fixture);
  const before = await belongings(node);
  const ended = await runUnder(node, fixture, scenario, fault);
  assertClear(ended);
  assert.deepEqual(await belongings(node), before);
  if (ended.exitCode === 0) await verifyImages(node, fixture.images, 'containers-storage');
  const again = await runUnder(node, fixture, scenario, undefined);
  assert.equal(again.exitCode, 0, `${faultText(fault)}: ${ended.stderr}\nand the next run: ${again.stdout}${again.stderr}`);
  await verifyImages(node, fixture.images, 'containers-storage');
  assert.deepEqual(await belongings(node), before);
  return ended.told[0];
}

/** An error has a code, says what it is about and what to do; nobody is shown a stack, and nothing hangs. */
export function assertClear({ exitCode, stdout, stderr }: AgentEnd): void {
  const all = `exit code ${exitCode}\n${stdout}${stderr}`;
  assert.ok(exitCode < 128, `a signal ended it, SIGKILL where it hangs: ${all}`);
  assert.doesNotMatch(all, /^\s+at \S.*:\d+:\d+\)?$/m);
  assert.doesNotMatch(all, /ERR_INTERNAL|Unhandled|undefined|\[object/, all);
  const state = parseRunState(stdout);
  if (exitCode === 0) {
    assert.equal(state?.outcome, 'complete', all);
    return;
  }
  if (state === undefined) {
    assert.match(stdout + stderr, /"code": "ERR_[A-Z_]+",[\s\S]*"remedy": "[A-Z]/, all);
    return;
  }
  const errors = [state.error, ...state.images.map((image) => image.error)].filter((error) => error !== undefined);
  assert.ok(errors.length > 0 && errors.every(({ message, remedy }) => message !== '' && /^[A-Z]/.test(remedy)), all);
}
