import assert from 'node:assert/strict';
import { type ErrorRecord, errorRecord } from '../../agent/model/errors.ts';

/** Code, message and remedy of the error that the act ends in; fails where it ends without one. */
export function thrownBy(act: () => unknown): ErrorRecord {
  try {
    act();
  } catch (error) {
    return errorRecord(error);
  }
  return assert.fail('nothing was thrown');
}

/** The code of the error that the act ends in, if it ends in one. */
export function codeOf(act: () => unknown): string | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    return errorRecord(error).code;
  }
}
