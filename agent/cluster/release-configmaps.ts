import { type Digest, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';

/** The signatures of one release, with their bytes. */
export interface SignedRelease {
  /** The manifest of the release image. */
  readonly release: Digest;
  /** OpenPGP messages. */
  readonly messages: readonly Buffer[];
}

export interface ConfigMap {
  readonly apiVersion: 'v1';
  readonly kind: 'ConfigMap';
  readonly metadata: { readonly name: string; readonly namespace: string; readonly labels: Readonly<Record<string, string>> };
  /** Base64. */
  readonly binaryData: Readonly<Record<string, string>>;
}

/** Where the cluster-version operator looks. Source: openshift/library-go, pkg/verify/store/configmap/configmap.go. */
const NAMESPACE = 'openshift-config-managed';
const LABEL = 'release.openshift.io/verification-signatures';
/** Kubernetes refuses a larger ConfigMap. Source: k8s.io/api/core/v1, MaxSecretSize. */
const LIMIT_BYTES = 1024 * 1024;

/**
 * Renders a ConfigMap with the signatures of each release, so that a cluster without a network accepts it for an upgrade. Pure.
 * @throws PrestageError ERR_SIGNATURE if the signatures of a release do not fit into one
 */
export function renderReleaseConfigMaps(releases: readonly SignedRelease[]): readonly ConfigMap[] {
  return releases.map(({ release, messages }): ConfigMap => {
    const hex = hexOf(release);
    const sizeBytes = messages.reduce((sum, message) => sum + message.length, 0);
    if (sizeBytes > LIMIT_BYTES) {
      throw new PrestageError(
        'ERR_SIGNATURE',
        `the signatures of the release ${release} have ${sizeBytes} bytes, but a ConfigMap can hold only ${LIMIT_BYTES}`,
        'Check the store of signatures that the bundle was pulled with, or pull again from another one with --release-signatures',
      );
    }
    return {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: `prestage-release-signatures-${hex.slice(0, 16)}`, namespace: NAMESPACE, labels: { [LABEL]: '' } },
      binaryData: Object.fromEntries(messages.map((message, index) => [`sha256-${hex}-${index + 1}`, message.toString('base64')])),
    };
  });
}
