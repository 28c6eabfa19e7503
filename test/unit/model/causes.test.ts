import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { causeLines, causesOf, type Fault, faultText, fromRegistry } from '../../../agent/model/causes.ts';

const missing = (registry: string, name: string): Fault => {
  const subject = `${registry}/${name}:1`;
  return {
    state: 'failed',
    subject,
    place: fromRegistry(subject),
    code: 'ERR_PULL_MISSING',
    message: `${subject}: the registry has no such image: reading manifest 1 in ${registry}/${name}`,
    remedy: 'Correct the list',
  };
};
const textOf = (faults: readonly Fault[], most = 3): readonly string[] =>
  causesOf(faults).flatMap((cause) => causeLines(cause, { most, more: '--all lists all' }));

test('images that a registry does not have are one cause with their number, the first three, and one remedy', () => {
  const names = Array.from({ length: 60 }, (_, index) => `app-${index}`);
  assert.deepEqual(textOf([...names.map((name) => missing('quay.io', name)), missing('registry.example.com', 'tool')]), [
    '  60 failed from quay.io: the registry has no such image',
    '    quay.io/app-0:1',
    '    quay.io/app-1:1',
    '    quay.io/app-2:1',
    '    … and 57 more: --all lists all',
    '    ERR_PULL_MISSING; next: Correct the list',
    '  failed registry.example.com/tool:1',
    '    registry.example.com/tool:1: the registry has no such image: reading manifest 1 in registry.example.com/tool',
    '    ERR_PULL_MISSING; next: Correct the list',
  ]);
});

test('faults with one message are one cause, wherever they are; with no room there is only their number', () => {
  const gone = ['quay.io/a', 'docker.io/b'].map(
    (subject): Fault => ({ state: 'missing', subject, place: fromRegistry(subject), message: 'it is no longer in storage' }),
  );
  assert.deepEqual(textOf(gone), ['  2 missing: it is no longer in storage', '    quay.io/a', '    docker.io/b']);
  assert.deepEqual(textOf(gone, 0), ['  2 missing: it is no longer in storage']);
});

test('messages that share nothing are told by the summary of their code; faults without a code stay apart', () => {
  const file = (name: string): Fault => ({
    state: 'faulty',
    subject: name,
    place: 'in oci',
    code: 'ERR_BUNDLE_FILE',
    message: `${name} is too short`,
  });
  assert.equal(
    textOf([file('a'), file('b')])[0],
    '  2 faulty in oci: a file of a bundle is missing, or its size or hash differs from the manifest',
  );
  const odd = (subject: string, message: string): Fault => ({ state: 'pending', subject, place: '', message });
  assert.deepEqual(textOf([odd('a', 'one'), odd('b', 'two'), odd('c', '')]), [
    '  pending a',
    '    one',
    '  pending b',
    '    two',
    '  pending c',
  ]);
});

test('a subject that is not a reference is from no registry', () => {
  assert.equal(fromRegistry('not a reference'), '');
});

test('law: each fault belongs to exactly one cause', () => {
  const fault = fc.record({
    state: fc.constantFrom('failed', 'skipped'),
    subject: fc.string(),
    place: fc.constantFrom('', 'from quay.io'),
    code: fc.constantFrom('ERR_PULL', 'ERR_LOAD'),
    message: fc.constantFrom('', 'a: b', 'a: c', 'd'),
  } as const);
  fc.assert(
    fc.property(fc.array(fault), (faults) => {
      const found = causesOf(faults).flatMap((cause) => cause.faults);
      assert.deepEqual([found.length, new Set(found)], [faults.length, new Set(faults)]);
    }),
  );
});

test('a single fault is told whole, with as much as is known of it', () => {
  const bare: Fault = { state: 'failed', subject: 'a', place: '', message: '' };
  assert.deepEqual(faultText([bare], false), ['  failed a']);
  assert.deepEqual(faultText([{ ...bare, message: 'it broke' }], true), ['  failed a', '    it broke']);
  assert.deepEqual(faultText([{ ...bare, code: 'ERR_SYSTEM', message: 'it broke', remedy: 'Mend it' }], false), [
    '  failed a',
    '    ERR_SYSTEM: it broke',
    '    next: Mend it',
  ]);
});
