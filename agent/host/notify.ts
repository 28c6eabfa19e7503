import { visibleLine } from '../model/visible.ts';
import type { Host } from './host.ts';

/** Tells systemd how far a unit is. */
export interface Notifier {
  /** One line for `systemctl status`, whatever is in it: a second one would be another message to systemd; passed on at most every two seconds, the newest text wins. */
  status(text: string): void;
}

/** systemd rate-limits nothing here, but each call starts a process. */
const PERIOD_MS = 2000;

/**
 * Sends STATUS= through systemd-notify(1), since Node has no datagram sockets for AF_UNIX; silent where systemd does not listen
 * (NOTIFY_SOCKET is not set).
 */
export function createNotifier(host: Host): Notifier {
  let lastMs = Number.NEGATIVE_INFINITY;
  if (!host.env.NOTIFY_SOCKET) return { status: () => undefined };
  return {
    status: (text) => {
      if (host.clock.monotonicMs() - lastMs < PERIOD_MS) return;
      lastMs = host.clock.monotonicMs();
      host
        .exec('systemd-notify', [`--status=${visibleLine(text)}`])
        .catch((error: unknown) => host.log('debug', `systemd-notify: ${String(error)}`));
    },
  };
}
