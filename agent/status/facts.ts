import type { CrioAwareness } from '../engine/crio-store.ts';
import type { UnitEnd } from '../host/unit-end.ts';
import type { ErrorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import type { StoreProbe } from '../release/assess-store.ts';
import type { StorageContents } from '../storage/records.ts';
import type { Look, Unseen } from './look.ts';

/** All that `status` decides by: what the run left, and what can be looked at now. */
export interface StatusFacts {
  readonly state: RunState | undefined;
  /** There is a record of a run, and it cannot be believed. */
  readonly isDamaged: boolean;
  /** There may be a record of a run, and this user cannot read it. */
  readonly stateUnseen?: Unseen;
  /** The process of the run is there. */
  readonly isAlive: Look<boolean>;
  readonly isSameBoot: boolean;
  /** Storage as it is now, with what is mounted beside it. */
  readonly storage: Look<StorageContents>;
  /** Records in storage that stand on layers that no store has, in words: engines fail on them. */
  readonly dangling: Look<readonly string[]>;
  /** What is mounted as store now. */
  readonly store: Look<StoreNow>;
  /** `host:port` of each mirror of ours in registries.conf or beside it. */
  readonly mirrors: Look<readonly string[]>;
  /** The registry that the run started, and those of our mirrors. */
  readonly registries: readonly RegistryNow[];
  /** Files by which engines are told of store and mirrors, if they are not as the agent wrote them. */
  readonly files: Look<readonly FileFault[]>;
  readonly crio: Look<CrioAwareness>;
  /** The agent's units that were started in this boot, as systemd knows them; left out where it was not asked. */
  readonly units?: readonly UnitEnd[];
  /** Why engines pull nothing; left out if there is a policy, or if that cannot be looked at. */
  readonly missingPolicy?: ErrorRecord;
  /** Of this machine, as GOARCH names it. */
  readonly architecture: string;
}

export interface StoreNow {
  /** Undefined if no store image is mounted. */
  readonly open: { readonly image: string; readonly sha256: string; readonly verified: Verified } | undefined;
  /** What reading from it gave. */
  readonly probe: Look<StoreProbe>;
}

export type Verified = NonNullable<RunState['store']>['verified'];

export interface RegistryNow {
  /** `host:port`, as registries.conf has it. */
  readonly address: string;
  readonly answer: Look<{ readonly healthy: boolean; readonly reason: string }>;
}

export interface FileFault {
  /** On the node. */
  readonly path: string;
  /** `untold`: a file of somebody else no longer says what the agent added to it. */
  readonly fault: 'gone' | 'changed' | 'untold';
  /** What engines learn from it. */
  readonly about: 'store' | 'mirrors';
}
