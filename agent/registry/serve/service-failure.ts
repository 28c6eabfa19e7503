import { quote } from '../../host/exec.ts';
import { PrestageError } from '../../model/errors.ts';
import { addressTaken } from './service-listener.ts';

/** A start of the registry that failed. */
export interface FailedStart {
  readonly image: string;
  readonly command: readonly string[];
  readonly address: string;
  /** What podman, systemd and the registry said. */
  readonly messages: string;
}

/** Messages of podman if --pull=never finds no image. */
const NO_IMAGE = /image not known|no such image|unable to find a name and tag match/i;
/** Messages of crun, runc and podman(1) run, exit codes 127 and 126. */
const NO_COMMAND = /executable file .*not found|command that was not found|no such file or directory: OCI runtime/i;
const NOT_RUNNABLE = /exec format error/i;
const CONFIG = /configuration error|error parsing|unmarshal/i;
const IN_USE = /address already in use/i;
const LISTEN = /cannot assign requested address/i;
/** The stacks that a Go program writes after its fault. In a log of podman, each line begins with time and stream. */
const STACKS = /^.*\bgoroutine \d+ .*\[[\s\S]*/m;

/** Says why a registry did not start, from the messages of the programs: each fault has its own next step. Pure. */
export function explainFailure({ image, command, address, messages: all }: FailedStart): PrestageError {
  const messages = all.replace(STACKS, '');
  const said = quote(messages) || 'no message';
  const [program = ''] = command;
  if (NO_IMAGE.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `the registry image ${image} is not in storage: ${said}`,
      'Build the bundle with --registry-image, or set registry-image to an image of the bundle that contains a registry',
    );
  }
  if (NO_COMMAND.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `the registry image ${image} does not contain the program ${program}: ${said}`,
      'Set registry-command to the program of that image and its arguments, or registry-image to an image that contains it',
    );
  }
  if (NOT_RUNNABLE.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_IMAGE',
      `${program} of ${image} is for another processor: ${said}`,
      'Build the bundle with a --registry-image for the processor of the node',
    );
  }
  if (IN_USE.test(messages)) return addressTaken(address, `another program: ${said}`);
  if (LISTEN.test(messages)) {
    return new PrestageError(
      'ERR_REGISTRY_PORT',
      `the registry cannot listen on ${address}: ${said}`,
      'Set serve-address to an address of this node; list them with: ip address',
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
