import { type Exec, quote } from '../host/exec.ts';
import { PrestageError } from '../model/errors.ts';

/** A start of the registry that came to nothing. */
export interface FailedStart {
  readonly image: string;
  readonly command: readonly string[];
  readonly address: string;
  /** What podman, systemd and the registry said. */
  readonly messages: string;
}

/** Of podman, where --pull=never finds nothing. */
const NO_IMAGE = /image not known|no such image|unable to find a name and tag match/i;
/** Of crun, runc and podman(1) run, exit codes 127 and 126. */
const NO_COMMAND = /executable file .*not found|command that was not found|no such file or directory: OCI runtime/i;
const NOT_RUNNABLE = /exec format error/i;
const CONFIG = /configuration error|error parsing|unmarshal/i;
const LISTEN = /address already in use|cannot assign requested address/i;
/** Where a Go program has said its fault, and its stacks begin. A log of podman has time and stream before it. */
const STACKS = /^.*\bgoroutine \d+ .*\[[\s\S]*/m;

/** Says why a registry did not start, by what the programs said: each fault has its own next step. Pure. */
export function explainFailure({ image, command, address, messages: all }: FailedStart): PrestageError {
  const messages = all.replace(STACKS, '');
  const said = quote(messages) || 'nothing was said';
  const [program = ''] = command;
  if (NO_IMAGE.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `the registry is to run from ${image}, which is not in storage: ${said}`,
      'Build the bundle with --registry-image, or set registry-image to an image of the bundle that holds a registry',
    );
  }
  if (NO_COMMAND.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `${image} does not hold ${program}, which is to serve: ${said}`,
      'Set registry-command to the program of that image and its arguments, or registry-image to one that holds it',
    );
  }
  if (NOT_RUNNABLE.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `${program} of ${image} is for another processor: ${said}`,
      'Build the bundle with a --registry-image for the processor of the node',
    );
  }
  if (LISTEN.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_PORT',
      `the registry cannot listen on ${address}: ${said}`,
      'Set registry-port to a port that is free, and serve-address to an address of this node',
    );
  }
  return new PrestageError(
    'ERR_REGISTRY_START',
    CONFIG.test(messages)
      ? `the registry of ${image} refuses its configuration: ${said}`
      : `the registry of ${image} does not answer on ${address}: ${said}`,
    'Look at its log: journalctl -u prestage-registry; then start the run again',
  );
}

/** The error for a port that another program listens on. */
export async function portTaken(exec: Exec, address: string, port: number): Promise<PrestageError> {
  const holder = await portHolder(exec, port);
  return new PrestageError(
    'ERR_REGISTRY_PORT',
    `${address} is taken by ${holder ?? 'a program that ss(8) does not name'}`,
    'Stop that program, or set registry-port to another port',
  );
}

async function portHolder(exec: Exec, port: number): Promise<string | undefined> {
  const args = ['--no-header', '--listening', '--tcp', '--numeric', '--processes', `sport = :${port}`];
  const listed = await exec('ss', args, { timeoutMs: 5000 }).catch(() => undefined);
  return listed === undefined ? undefined : parseListeners(listed.stdout)[0];
}

/** The programs in the output of `ss --processes`, as `NAME (pid N)`. Source: ss(8): `users:(("nginx",pid=7,fd=3),…)`. Pure. */
export function parseListeners(text: string): readonly string[] {
  return [...text.matchAll(/\("([^"]*)",pid=([0-9]+),/g)].map(([, name, pid]) => `${name} (pid ${pid})`);
}
