import type { Host } from '../host/host.ts';
import { hasSystemd } from '../host/systemd.ts';
import { PrestageError } from '../model/errors.ts';
import { askCrictl, type Crictl, endPod } from '../mount/crictl.ts';
import { type DanglingContainer, podsOf } from '../mount/dangling.ts';
import type { Pod } from '../storage/container-owner.ts';
import type { PlannedStep } from './plan.ts';

/** The facts that decide about pods that depend on the store image. */
export interface PodFacts {
  readonly pods: readonly Pod[];
  /** A file system of a container of theirs is mounted. */
  readonly areRunning: boolean;
  /** kubelet is running: it starts a pod again as soon as it is gone. */
  readonly hasKubelet: boolean;
  readonly crictl: Crictl;
}

/** `leave`: they are not running, so that their records can be removed like those of other engines. */
export type PodVerdict = { readonly kind: 'leave' | 'end' } | { readonly kind: 'refuse'; readonly error: PrestageError };

/**
 * Whether pods can be ended before the store image is closed. If somebody else removed their records, a running CRI-O would be left with pods that it can
 * neither stop nor remove. Pure.
 */
export function judgePods({ pods, areRunning, hasKubelet, crictl }: PodFacts): PodVerdict {
  if (pods.length === 0) return { kind: 'leave' };
  const named = pods.map(({ name }) => name).join(', ');
  if (hasKubelet) {
    return refuse(
      `${named}: these pods depend on the store image, and the kubelet would start them again`,
      'Drain the node first, then stop the kubelet (systemctl stop kubelet), and run prestage-agent release again',
    );
  }
  if (crictl.kind === 'answers') return { kind: 'end' };
  if (crictl.kind === 'silent') {
    return refuse(
      `${named}: these pods depend on the store image, and CRI-O cannot be asked to end them: ${crictl.reason}`,
      'Drain the node first, then end the pods (crictl rmp --force --all), and run prestage-agent release again',
    );
  }
  if (!areRunning) return { kind: 'leave' };
  return refuse(
    `${named}: these pods run from the store image, but CRI-O, which could end them, is not running`,
    'Drain the node first, start CRI-O (systemctl start crio), end the pods (crictl rmp --force --all), then run prestage-agent release again',
  );
}

function refuse(message: string, remedy: string): PodVerdict {
  return { kind: 'refuse', error: new PrestageError('ERR_STORE_PODS', message, remedy) };
}

/** Looks at the pods of some containers. @param isRunning by the layer of a container */
export async function podFacts(
  host: Host,
  containers: readonly DanglingContainer[],
  isRunning: (layer: string) => boolean,
): Promise<PodFacts> {
  const ofPods = containers.filter(({ pod }) => pod !== undefined);
  const pods = podsOf(ofPods);
  if (pods.length === 0) return { pods, areRunning: false, hasKubelet: false, crictl: { kind: 'no-crio' } };
  return {
    pods,
    areRunning: ofPods.some(({ layer }) => isRunning(layer)),
    hasKubelet: hasSystemd(host) && (await host.exec('systemctl', ['is-active', '--quiet', 'kubelet.service'])).exitCode === 0,
    crictl: await askCrictl(host),
  };
}

/** A step for each pod. */
export function podSteps(host: Host, pods: readonly Pod[]): readonly PlannedStep[] {
  return pods.map((pod) => ({
    name: 'heal-container',
    text: `end pod ${pod.name} (crictl rmp --force ${pod.id})`,
    run: async () => {
      const reason = await endPod(host, pod);
      if (reason === undefined) return;
      throw new PrestageError(
        'ERR_STORE_PODS',
        `pod ${pod.name} could not be ended: ${reason}`,
        'Drain the node first, end the pod (crictl rmp --force), then run prestage-agent release again',
      );
    },
  }));
}
