import type { Step } from '../../host/steps.ts';
import type { ListText } from '../../model/image-list.ts';
import type { Stage } from '../../model/stage.ts';
import type { PullSource } from '../web/source.ts';
import type { OnPullEvent } from './progress.ts';

/** Forms that images are pulled into. */
export const PULL_FORMATS = ['oci', 'archives'] as const;
export type PullFormat = (typeof PULL_FORMATS)[number];

/** What becomes of signatures: those that are there are taken; an image without one fails; they are not asked for. */
export const SIGNATURE_CHOICES = ['auto', 'require', 'none'] as const;
export type SignatureChoice = (typeof SIGNATURE_CHOICES)[number];

export interface PullRequest {
  /** The lists to pull, read as if they were one. */
  readonly lists: readonly ListText[];
  /** The folder; made where it is missing. */
  readonly to: string;
  readonly format: PullFormat;
  /** Whose list the written one is, where the format has lists: it gives the list its name. The names stay where left out. */
  readonly stage?: Stage;
  readonly source: PullSource;
  /** An OCI image layout has a place for them; archives have none. */
  readonly signatures: SignatureChoice;
  /** Base address of GPG signatures; that of registries.d where left out. */
  readonly lookaside?: string;
  /** Address or folder of a store of release signatures; none are brought where left out. */
  readonly releaseSignatures?: string;
  /** Bring attestations, SBOMs and referrers of each image; an OCI image layout has a place for them. */
  readonly attachments: boolean;
  /** Lines that name no container image are left out, instead of failing. */
  readonly skipsArtifacts: boolean;
  /** Images at a time. */
  readonly parallel: number;
  /** Attempts after the first. */
  readonly retries: number;
  readonly stallMs: number;
  /** Write nothing; say what would be fetched. */
  readonly isDry: boolean;
  readonly step: Step;
  /** Ends the pull: what has come whole is kept. */
  readonly stop: AbortSignal;
  readonly onEvent: OnPullEvent;
}
