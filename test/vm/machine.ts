import { spawn } from 'node:child_process';
import { mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type End, type RunsPrograms, untilSettled, within } from '../boot/machine.ts';
import { connectGuest, type GuestAgent } from './guest-agent.ts';
import { type QemuOptions, qemuArgv } from './qemu.ts';

/** A machine with a kernel, a udev and disks of its own. The lease takes it down. */
export interface VirtualMachine extends RunsPrograms, AsyncDisposable {
  readonly ended: Promise<End>;
  /** Waits until all units have started or failed: the word of `systemctl is-system-running`, or how it ended before that. */
  settled(limitMs: number): Promise<string>;
  powerOff(): Promise<End>;
  /** Ends it at once. What its kernel has written to its disks stays: to lose more, drop its writes before. */
  kill(): Promise<End>;
}

export interface VirtualMachineOptions extends Omit<QemuOptions, 'agentSocket' | 'console'> {
  readonly tree: string;
  /** Directory for the socket and the console's file. */
  readonly work: string;
  readonly signal: AbortSignal;
}

/** An emulated kernel with systemd answers 10 to 20 s after its start on a machine with nothing else to do. */
const START_LIMIT_MS = 180_000;
const RUN_LIMIT_MS = 300_000;
const END_LIMIT_MS = 120_000;
const BREAK_LIMIT_MS = 10_000;
const SOCKET_LIMIT_MS = 10_000;

/** Starts a machine and waits until programs can be run in it. */
export async function startMachine(options: VirtualMachineOptions): Promise<VirtualMachine> {
  const directory = await mkdtemp(join(options.work, 'vm-'));
  const [agentSocket, console] = [join(directory, 'agent'), join(directory, 'console')];
  const [program = '', ...args] = qemuArgv(options.tree, { ...options, agentSocket, console });
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaints = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaints += chunk.toString();
  });
  const over = new AbortController();
  const consoleText = async (): Promise<string> => (await readFile(console, 'utf8').catch(() => '')).replaceAll('\r', '');
  const ended = new Promise<End>((resolve) => {
    child.once('error', () => resolve('killed'));
    child.once('close', (code) => resolve(code === 0 ? consoleText().then(endOf) : 'killed'));
  });
  void ended.then(() => over.abort(new Error('the machine has ended')));
  const explain = async (what: string): Promise<Error> =>
    new Error(`${what}\n--- console:\n${complaints}${(await consoleText()).split('\n').slice(-40).join('\n')}`);
  const kill = async (): Promise<End> => {
    child.kill('SIGKILL');
    return await ended;
  };
  const limit = (ms: number): AbortSignal => AbortSignal.any([over.signal, options.signal, AbortSignal.timeout(ms)]);
  let agent: GuestAgent;
  try {
    agent = await connected(agentSocket, limit(SOCKET_LIMIT_MS));
    await agent.ready(limit(START_LIMIT_MS));
  } catch {
    await kill();
    throw await explain('no program can be run in the machine');
  }
  const run: VirtualMachine['run'] = async (argv) => await agent.run(argv, limit(RUN_LIMIT_MS));
  return {
    ended,
    run,
    output: async (argv) => {
      const result = await run(argv);
      if (result.exitCode === 0) return result.stdout;
      throw new Error(`${argv.join(' ')} ended with ${result.exitCode} in the machine: ${result.stdout}${result.stderr}`);
    },
    settled: async (limitMs) => {
      const asked = untilSettled(run, { ended, isOver: () => over.signal.aborted }).catch(async (error: unknown) => {
        // Its connections break some moments before its process ends.
        const end = await within(ended, BREAK_LIMIT_MS);
        if (end !== undefined) return end;
        throw error;
      });
      const word = await within(Promise.race([asked, ended]), limitMs);
      if (word !== undefined) return word;
      const jobs = await run(['systemctl', 'list-jobs', '--no-pager']);
      throw await explain(`the machine was not up within ${limitMs / 1000} s; it waits for:\n${jobs.stdout}`);
    },
    powerOff: async () => {
      void run(['systemctl', 'poweroff']).catch(() => undefined);
      const end = await within(ended, END_LIMIT_MS);
      if (end !== undefined) return end;
      await kill();
      throw await explain(`the machine did not end within ${END_LIMIT_MS / 1000} s`);
    },
    kill,
    [Symbol.asyncDispose]: async () => {
      await kill();
      agent.close();
    },
  };
}

/** How the kernel has ended, by its last words. Source: Linux, kernel/reboot.c. */
function endOf(console: string): End {
  return /reboot: Restarting system/.test(console) ? 'reboot' : 'off';
}

async function connected(socket: string, signal: AbortSignal): Promise<GuestAgent> {
  for (;;) {
    const agent = await connectGuest(socket).catch(() => undefined);
    if (agent !== undefined) return agent;
    await sleep(50, undefined, { signal });
  }
}
