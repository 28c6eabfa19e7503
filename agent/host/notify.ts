import { visibleLine } from '../model/visible.ts';
import type { Host } from './host.ts';

/** Reports the progress of a unit to systemd. */
export interface Notifier {
  /** Text for `systemctl status`, always sent as one line, because a second line would be another message to systemd. Sent at most every two seconds; texts in between are dropped. */
  status(text: string): void;
}

/** systemd rate-limits nothing here, but each call starts a process. */
const PERIOD_MS = 2000;

/**
 * Sends STATUS= with systemd-notify(1), because Node has no datagram sockets for AF_UNIX; does nothing if systemd does not listen
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
