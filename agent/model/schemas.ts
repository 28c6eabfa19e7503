import * as v from 'valibot';
import { type Digest, isDigest } from './digest.ts';
import { type ErrorCode, type ErrorRecord, isErrorCode } from './errors.ts';

/** Schemas of values that several formats have. */

export const digestSchema = v.custom<Digest>(
  (value) => typeof value === 'string' && isDigest(value),
  'is not sha256:<64 lower-case hex digits>',
);

export const errorRecordSchema: v.GenericSchema<unknown, ErrorRecord> = v.object({
  code: v.custom<ErrorCode>(isErrorCode, 'is not an error code of this version'),
  message: v.string(),
  remedy: v.string(),
});
