import type { ErrorRecord } from '../model/errors.ts';
import type { CopiedPieces, PiecesJob } from './copy-pieces.ts';
import type { Filled, FillJob } from './fill-tree.ts';
import type { HashedFile, HashJob } from './hash-file.ts';
import type { InflaterKind } from './raw-inflate.ts';
import type { Survey, SurveyJob } from './survey-archive.ts';
import type { Unpacked, UnpackJob } from './unpack-archive.ts';

/** From the main thread to a worker, which has one job at a time. */
export type WorkerRequest =
  | { readonly kind: 'survey'; readonly job: SurveyJob }
  | { readonly kind: 'unpack'; readonly job: UnpackJob }
  | { readonly kind: 'hash'; readonly job: HashJob }
  | { readonly kind: 'copy-pieces'; readonly job: PiecesJob }
  | { readonly kind: 'fill'; readonly job: FillJob };

/** From a worker to the main thread: once the kind of its inflater, then for each job any number of `progress` and one result. */
export type WorkerReply =
  | { readonly kind: 'inflater'; readonly uses: InflaterKind }
  | { readonly kind: 'progress'; readonly bytesRead: number }
  | WorkerResult;

export type WorkerResult =
  | { readonly kind: 'surveyed'; readonly survey: Survey }
  | { readonly kind: 'unpacked'; readonly unpacked: Unpacked }
  | { readonly kind: 'hashed'; readonly hashed: HashedFile }
  | { readonly kind: 'copied-pieces'; readonly copied: CopiedPieces }
  | { readonly kind: 'filled'; readonly filled: Filled }
  | { readonly kind: 'failed'; readonly error: ErrorRecord };
