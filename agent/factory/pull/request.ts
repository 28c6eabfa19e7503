import type { Act } from '../../host/acts.ts';
import type { ListText } from '../../model/image-list.ts';
import type { Stage } from '../../model/stage.ts';
import type { PullSource } from '../web/source.ts';
import type { OnPullEvent } from './progress.ts';

/** Forms that images are pulled into. */
export const PULL_FORMATS = ['oci', 'archives'] as const;
export type PullFormat = (typeof PULL_FORMATS)[number];

/** How signatures are handled: fetched if available; demanded, so that an image without one fails; not asked for. */
export const SIGNATURE_CHOICES = ['auto', 'require', 'none'] as const;
export type SignatureChoice = (typeof SIGNATURE_CHOICES)[number];

export interface PullRequest {
  /** The lists to pull, read as if they were one. */
  readonly lists: readonly ListText[];
  /** The folder; created if missing. */
  readonly to: string;
  readonly format: PullFormat;
  /** The stage of the written list: it determines the list's name. If left out, lists keep their names. */
  readonly stage?: Stage;
  readonly source: PullSource;
  /** An OCI image layout has a place for them; archives have none. */
  readonly signatures: SignatureChoice;
  /** Base address of GPG signatures; by registries.d if left out. */
  readonly lookaside?: string;
  /** Address or folder of a store of release signatures; none are fetched if left out. */
  readonly releaseSignatures?: string;
  /** Fetch attestations, SBOMs and referrers of each image; an OCI image layout has a place for them. */
  readonly attachments: boolean;
  /** Leave out lines that do not name a container image, instead of failing. */
  readonly skipsArtifacts: boolean;
  /** Images at a time. */
  readonly parallel: number;
  /** Attempts after the first. */
  readonly retries: number;
  readonly stallMs: number;
  /** Write nothing; report what would be fetched. */
  readonly isDry: boolean;
  readonly act: Act;
  /** Stops the pull: pulled blobs are kept. */
  readonly stop: AbortSignal;
  readonly onEvent: OnPullEvent;
}
