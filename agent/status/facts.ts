import type { CrioAwareness } from '../engine/crio-store.ts';
import type { UnitEnd } from '../host/unit-end.ts';
import type { ErrorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import type { Verified } from '../model/store.ts';
import type { StorageContents } from '../storage/records.ts';
import type { StoreProbe } from '../undo/assess-store.ts';
import type { Look, Unseen } from './look.ts';

/** Everything that decides the status: the record of the run, and what can be seen now. */
export interface StatusFacts {
  readonly state: RunState | undefined;
  /** A record of a run exists, but it is damaged. */
  readonly isDamaged: boolean;
  /** A record of a run may exist, but this user cannot read it. */
  readonly stateUnseen?: Unseen;
  /** Whether the process of the run is alive. */
  readonly isAlive: Look<boolean>;
  readonly isSameBoot: boolean;
  /** Storage as it is now, including the additional stores. */
  readonly storage: Look<StorageContents>;
  /** Records in storage that need layers which no store has, described for people. Engines fail on these records. */
  readonly dangling: Look<readonly string[]>;
  /** The store image that is mounted now. */
  readonly store: Look<StoreNow>;
  /** `host:port` of each mirror of ours in registries.conf or beside it. */
  readonly mirrors: Look<readonly string[]>;
  /** The registry that the run started, and those of our mirrors. */
  readonly registries: readonly RegistryNow[];
  /** Files that point engines to the store and the mirrors, if they are not as the agent wrote them. */
  readonly files: Look<readonly FileFault[]>;
  readonly crio: Look<CrioAwareness>;
  /** The agent's units that were started in this boot, as systemd knows them; left out if systemd was not asked. */
  readonly units?: readonly UnitEnd[];
  /** Why engines refuse every pull; left out if a policy exists, or if that cannot be checked. */
  readonly missingPolicy?: ErrorRecord;
  /** Architecture of this machine, as GOARCH names it. */
  readonly architecture: string;
}

export interface StoreNow {
  /** Undefined if no store image is mounted. */
  readonly open: { readonly image: string; readonly sha256: string; readonly verified: Verified } | undefined;
  /** The result of a test read from it. */
  readonly probe: Look<StoreProbe>;
}

export interface RegistryNow {
  /** `host:port`, as registries.conf has it. */
  readonly address: string;
  readonly answer: Look<{ readonly healthy: boolean; readonly reason: string }>;
}

export interface FileFault {
  /** Path on the node. */
  readonly path: string;
  /** `untold`: a file that is not the agent's no longer contains what the agent added to it. */
  readonly fault: 'gone' | 'changed' | 'untold';
  /** What the file points engines to. */
  readonly about: 'store' | 'mirrors';
}
