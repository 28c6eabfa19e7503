import { errorRecord } from '../model/errors.ts';

/** Something that was inspected, or why it could not be. Unseen never counts as being in order. */
export type Look<T> = { readonly kind: 'seen'; readonly value: T } | Unseen;

export interface Unseen {
  readonly kind: 'unseen';
  /** Why it could not be inspected, for people. */
  readonly reason: string;
  /** What the operator does next. */
  readonly remedy: string;
}

export const ASK_AS_ROOT = 'Run it as root: sudo prestage-agent status';

export function seen<T>(value: T): Look<T> {
  return { kind: 'seen', value };
}

/** Inspects something. What cannot be read, for example because this user may not, is unseen. A fault of the agent itself is thrown. */
export async function look<T>(read: () => Promise<T>): Promise<Look<T>> {
  try {
    return seen(await read());
  } catch (error) {
    if (isDenied(error)) return { kind: 'unseen', reason: 'this user may not read it', remedy: ASK_AS_ROOT };
    const { code, message, remedy } = errorRecord(error);
    if (code === 'ERR_INTERNAL') throw error;
    return { kind: 'unseen', reason: message, remedy };
  }
}

/** Whether the kernel denied this user access. Source: errno(3). */
export function isDenied(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ('code' in error && (error.code === 'EACCES' || error.code === 'EPERM')) || isDenied(error.cause);
}
