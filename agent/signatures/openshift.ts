import { type Policy, type Requirement, repositoryOf } from './policy.ts';

/**
 * The signatures that self-managed clusters of a release require for images of OpenShift, from their first boot on.
 * Source: github.com/openshift/cluster-update-keys, manifests of the ClusterImagePolicy `openshift`, by release; the key is that of Red Hat's
 * release images (RSA, 4096 bits). It names no transparency log and no identity, so the check needs neither network nor clock.
 */
interface ReleasePolicy {
  /** The first release that has it, `major.minor`. */
  readonly from: string;
  readonly scopes: readonly string[];
}

const RELEASES: readonly ReleasePolicy[] = [
  { from: '4.21', scopes: ['quay.io/openshift-release-dev/ocp-release'] },
  {
    from: '4.22',
    scopes: [
      'quay.io/openshift-release-dev/ocp-release',
      'quay.io/openshift-release-dev/ocp-v4.0-art-dev',
      'quay.io/openshift-release-dev/ocp-v5.0-art-dev',
    ],
  },
];

const KEY_LINES: readonly string[] = [
  'MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEA0ASyuH2TLWvBUqPHZ4Ip75g7EncBkgQHdJnjzxAW5KQTMh/siBoB',
  '/BoSrtiPMwnChbTCnQOIQeZuDiFnhuJ7M/D3b7JoX0m123NcCSn67mAdjBa6Bg6kukZgCP4ZUZeESajWX/EjylFcRFOXW57p',
  'RDCEN42J/jYlVqt+g9+Grker8Sz86H3l0tbqOdjbz/VxHYhwF0ctUMHsyVRDq2QPtqzNXlmlMhS/PoFr6R4u/7HCn/K+Legc',
  'O2fAFOb40KvKSKKVD6lewUZErhop1CgJXjDtGmmO9dGMF71mf6HEfaKSdy+EE6iSF2A2Vv9QhBawMiq2kOzEiLg4nAdJT8wg',
  'ZrMAmPCqGIsXNGZ4/Q+YTwwlce3glqb5L9tfNozEdSR9N85DESfQLQEdY3CalwKMBT1OEhEX1wHRCU4drMOej6BNW0VtscGt',
  'HmCrs74jPezhwNT8ypkyS+T0zT4Tsy6fVXkJ8YSHyenSzMB2Op2bvsE3grY+s74WhG9UIA6DBxcTie15NSzKwfzaoNWODcLF',
  'p7BY8aaHE2MqFxYFX+IbjpkQRfaeQQsouDFdCkXEFVfPpbD2dk6FleaMTPuyxtITgjVEtGQK2qGCFGiQHFd4hfV+eCA63Jro',
  '1z0zoBM5BbIIQ3+eVFwt3AlZp5UVwr6dsecqki/yrmv3Y0dqZ9VOn3UCAwEAAQ==',
];

/** The public key of the policy, PEM. */
export const OPENSHIFT_KEY = `-----BEGIN PUBLIC KEY-----\n${KEY_LINES.join('\n')}\n-----END PUBLIC KEY-----\n`;

/**
 * The policy that a self-managed cluster of a release starts with.
 * @param release such as `4.22.3`, `4.22` or `5.0.0-rc.1`
 * @returns undefined if clusters of the release require no signatures, or the text is not a release
 */
export function openshiftPolicy(release: string): Policy | undefined {
  const found = RELEASES.findLast(({ from }) => (compareReleases(release, from) ?? -1) >= 0);
  if (found === undefined) return undefined;
  const demand: Requirement = {
    kind: 'signed',
    by: 'sigstore',
    keys: [{ data: Buffer.from(OPENSHIFT_KEY) }],
    identity: { kind: 'matchRepoDigestOrExact' },
  };
  return {
    file: `the policy of OpenShift ${release}`,
    default: [{ kind: 'accept' }],
    scopes: new Map(found.scopes.map((scope) => [scope, [demand]])),
  };
}

/** A policy that accepts every image, like that of clusters before 4.21. */
export function acceptingPolicy(file: string): Policy {
  return { file, default: [{ kind: 'accept' }], scopes: new Map() };
}

/** Whether any release of OpenShift requires signatures for the images of a repository. */
export function isCoveredByOpenshift(fullName: string): boolean {
  const repository = repositoryOf(fullName);
  return RELEASES.some(({ scopes }) => scopes.includes(repository));
}

/** Compares only major and minor. Below 0 if the first release is older; undefined if a text is not a release. */
function compareReleases(a: string, b: string): number | undefined {
  const [one, other] = [a, b].map((text) => /^(\d+)\.(\d+)(?:[.-]|$)/.exec(text));
  if (!one || !other) return undefined;
  return Number(one[1]) - Number(other[1]) || Number(one[2]) - Number(other[2]);
}
