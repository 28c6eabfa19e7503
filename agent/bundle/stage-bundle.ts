import type { Payload } from '../extract/payload.ts';
import type { BundleFile, BundleImage, StorePieces } from '../model/bundle.ts';
import type { Stage } from '../model/stage.ts';
import type { OcMirrorFolder } from '../tree/archive-sets.ts';

/** What a partition or folder holds for one stage, in all its forms. Paths are absolute unless stated otherwise; sizes are bytes. */
export interface StageBundle {
  /** Top directory of the bundle. */
  readonly directory: string;
  readonly stage: Stage;
  /** sha256 of prestage.json; undefined for a folder without one. */
  readonly sealedSha256: string | undefined;
  /** GOARCH name of the nodes that it was built for; undefined for a folder without prestage.json. */
  readonly architecture: string | undefined;
  /** The images of the stage as listed in prestage.json. */
  readonly images: readonly BundleImage[] | undefined;
  readonly store: StoreSource | undefined;
  readonly registry: RegistrySource | undefined;
  /** Archives of oc-mirror. */
  readonly ocMirror: OcMirrorFolder | undefined;
  /** The form that can be extracted. */
  readonly extractable: Payload['kind'] | undefined;
  /**
   * Reads that form.
   * @throws PrestageError ERR_PAYLOAD_MISSING, ERR_LIST, ERR_MAPPING, ERR_LAYOUT
   */
  readonly payload: () => Promise<Payload>;
}

/** A bundle that has a store image for the stage. */
export type StoreBundle = StageBundle & { readonly store: StoreSource; readonly images: readonly BundleImage[] };

/** A store image with what belongs to it. */
export interface StoreSource {
  readonly image: {
    readonly path: string;
    readonly sizeBytes: number;
    /** 64 lower-case hex digits. */
    readonly sha256: string;
    readonly pieces?: StorePieces | undefined;
    /** File of the dm-verity hash tree. */
    readonly hashTree: string;
    readonly hashTreeSizeBytes: number;
    readonly rootHash: string;
  };
  /** Registry tree of manifests and configs; its files have paths below it. */
  readonly mirror: { readonly path: string; readonly files: readonly BundleFile[] };
  /** References of the operating systems, which the mirror does not serve. */
  readonly unmirrored: readonly string[];
  /** Registry tree with all blobs of the operating systems; undefined if they are not to be served. */
  readonly osTree: { readonly path: string; readonly files: readonly BundleFile[] } | undefined;
  /** References of operating systems that are not in the store image. */
  readonly unstored: readonly string[];
  /** Image in the store that carries distribution. */
  readonly registryImage: string | undefined;
}

/** A registry tree with all blobs; its files have paths below it. */
export interface RegistrySource {
  readonly path: string;
  readonly files: readonly BundleFile[];
  readonly registryImage: string | undefined;
}
