import assert from 'node:assert/strict';
import { test } from 'node:test';
import { archiveFault } from '../../../agent/extract/archive-faults.ts';
import type { EntryHeader } from '../../../agent/extract/entry-policy.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { judgeOcMirrorMember, type OcMirrorMember } from '../../../agent/tree/oc-mirror-member.ts';
import { thrownBy } from '../../support/thrown.ts';

const ROOT = 'docker/registry/v2';
const digest = digestOf('blob');
const hex = hexOf(digest);
const shard = hex.slice(0, 2);
const home = `${ROOT}/repositories/openshift4/ose-tool`;

function judge(header: Partial<EntryHeader> & Pick<EntryHeader, 'name'>): OcMirrorMember {
  const whole: EntryHeader = { type: 'file', sizeBytes: 71, paxKeywords: [], ...header };
  return judgeOcMirrorMember(whole, (code, what) => archiveFault(code, 'mirror_000001.tar', `member ${what}`));
}

test('members are told apart by their places', () => {
  const cases: readonly (readonly [string, OcMirrorMember])[] = [
    [`${ROOT}/blobs/sha256/${shard}/${hex}/data`, { kind: 'blob', digest }],
    [`./${ROOT}/blobs/sha256/${shard}/${hex}/data`, { kind: 'blob', digest }],
    [`${home}/_layers/sha256/${hex}/link`, { kind: 'link', path: `${home}/_layers/sha256/${hex}/link`, digest }],
    [`${home}/_manifests/revisions/sha256/${hex}/link`, { kind: 'link', path: `${home}/_manifests/revisions/sha256/${hex}/link`, digest }],
    [
      `${home}/_manifests/tags/v1/index/sha256/${hex}/link`,
      { kind: 'link', path: `${home}/_manifests/tags/v1/index/sha256/${hex}/link`, digest },
    ],
    [`${home}/_manifests/tags/v1/current/link`, { kind: 'tag', path: `${home}/_manifests/tags/v1/current/link` }],
    [`${home}/_manifests/revisions/sha256/${hex}/signatures/sha256/${hex}/link`, { kind: 'other' }],
    [`${home}/_uploads/0b2c/data`, { kind: 'other' }],
    ['working-dir/cluster-resources/idms-oc-mirror.yaml', { kind: 'resource', resource: 'idms' }],
    ['working-dir/cluster-resources/itms-oc-mirror.yaml', { kind: 'resource', resource: 'itms' }],
    ['working-dir/cluster-resources/cs-redhat.yaml', { kind: 'other' }],
    ['working-dir/hold-release/x/y.json', { kind: 'other' }],
    ['isc_2025-05-01T10:11:12Z', { kind: 'resource', resource: 'isc' }],
  ];
  for (const [name, expected] of cases) assert.deepEqual(judge({ name }), expected, name);
});

test('a directory is passed over wherever it stands', () => {
  assert.deepEqual(judge({ name: `${ROOT}/blobs/`, type: 'directory', sizeBytes: 0 }), { kind: 'other' });
});

test('each way out of the layout is refused with a code of its own', () => {
  const blob = `${ROOT}/blobs/sha256/${shard}/${hex}/data`;
  const cases: readonly (readonly [string, Partial<EntryHeader> & Pick<EntryHeader, 'name'>])[] = [
    ['ERR_ARCHIVE_ABSOLUTE', { name: `/${blob}` }],
    ['ERR_ARCHIVE_ESCAPE', { name: `${ROOT}/../../../etc/passwd` }],
    ['ERR_ARCHIVE_ESCAPE', { name: 'working-dir/../../etc/passwd' }],
    ['ERR_ARCHIVE_NAME', { name: `${ROOT}/blobs/\u0007` }],
    ['ERR_ARCHIVE_SYMLINK', { name: blob, type: 'symlink' }],
    ['ERR_ARCHIVE_HARDLINK', { name: blob, type: 'link' }],
    ['ERR_ARCHIVE_DEVICE', { name: blob, type: 'character-device' }],
    ['ERR_ARCHIVE_DEVICE', { name: 'working-dir/sda', type: 'block-device' }],
    ['ERR_ARCHIVE_FIFO', { name: blob, type: 'fifo' }],
    ['ERR_ARCHIVE_TYPE', { name: blob, type: 'contiguous-file' }],
    ['ERR_ARCHIVE_TYPE', { name: blob, type: null }],
    ['ERR_ARCHIVE_TYPE', { name: blob, paxKeywords: ['GNU.sparse.major'] }],
    ['ERR_ARCHIVE_SIZE', { name: blob, sizeBytes: -1 }],
    ['ERR_ARCHIVE_OVERSIZE', { name: blob, sizeBytes: 65 * 2 ** 30 }],
    ['ERR_ARCHIVE_OVERSIZE', { name: `${home}/_manifests/tags/v1/current/link`, sizeBytes: 1025 }],
    ['ERR_ARCHIVE_OVERSIZE', { name: 'isc_2025-05-01T10:11:12Z', sizeBytes: 4 * 2 ** 20 + 1 }],
    ['ERR_MIRROR_LAYOUT', { name: 'etc/passwd' }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/blobs/sha256/${shard === '00' ? '01' : '00'}/${hex}/data` }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/blobs/sha512/${shard}/${hex}/data` }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/blobs/sha256/${shard}/${hex}/data2` }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/repositories/UPPER/_layers/sha256/${hex}/link` }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/repositories/_layers/sha256/${hex}/link` }],
    ['ERR_MIRROR_LAYOUT', { name: `${ROOT}/repositories/${'a/'.repeat(130)}a/_layers/sha256/${hex}/link` }],
    ['ERR_MIRROR_LAYOUT', { name: `${home}/_layers/sha256/${hex}/data` }],
    ['ERR_MIRROR_LAYOUT', { name: `${home}/_manifests/tags/${'t'.repeat(129)}/current/link` }],
    ['ERR_MIRROR_LAYOUT', { name: `${home}/_manifests/tags/v1/current/link/deeper` }],
    ['ERR_MIRROR_LAYOUT', { name: 'isc_../x' }],
  ];
  for (const [code, header] of cases) assert.equal(thrownBy(() => judge(header)).code, code, JSON.stringify(header));
});
