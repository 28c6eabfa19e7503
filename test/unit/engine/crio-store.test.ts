import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knowsStore } from '../../../agent/engine/crio-store.ts';
import { CRIO_DROP_IN, ETC_STORAGE_CONF } from '../../../agent/engine/engine-facts.ts';
import type { WrittenFile } from '../../../agent/system-files/record.ts';

const crio = { bootId: 'this', startedMs: 60_000 };
const at = (sinceBootMs: number, bootId = 'this'): Pick<WrittenFile, 'at'> => ({ at: { bootId, sinceBootMs } });

const cases: Readonly<Record<string, readonly [written: readonly WrittenFile[], isKnown: boolean]>> = {
  'that nobody wrote a file for': [[], true],
  'that was started after its drop-in was written': [[{ path: CRIO_DROP_IN, ...at(59_990) }], true],
  'that was started before its drop-in was written': [[{ path: CRIO_DROP_IN, ...at(60_000) }], false],
  'that was started before storage.conf named the store': [[{ path: ETC_STORAGE_CONF, ...at(90_000) }], false],
  'whose drop-in an earlier boot wrote, later in that boot': [[{ path: CRIO_DROP_IN, ...at(90_000, 'earlier') }], true],
  'that was started before a file was written that does not concern it': [[{ path: '/etc/profile.d/50-prestage.sh', ...at(90_000) }], true],
  'whose drop-in was written at a time that was not kept': [[{ path: CRIO_DROP_IN }], true],
  'that has read one of two files': [
    [
      { path: CRIO_DROP_IN, ...at(90_000) },
      { path: ETC_STORAGE_CONF, ...at(1) },
    ],
    false,
  ],
};
for (const [what, [written, isKnown]] of Object.entries(cases)) {
  test(`a CRI-O ${what} ${isKnown ? 'knows' : 'does not know'} the store`, () => assert.equal(knowsStore(written, crio), isKnown));
}
