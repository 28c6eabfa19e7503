import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseDelivery } from '../../agent/reconcile/delivery.ts';
import { thrownBy } from '../support/thrown.ts';

test('archives and layouts are extracted, and the reason says why', () => {
  assert.deepEqual(chooseDelivery('auto', 'oci'), { kind: 'extract', reason: 'a payload of oci goes into containers-storage' });
  assert.deepEqual(chooseDelivery('extract', 'archives'), { kind: 'extract', reason: 'asked for by the settings' });
});

test('a delivery that does not go with the payload is refused', () => {
  assert.deepEqual(
    thrownBy(() => chooseDelivery('mount', 'archives')),
    {
      code: 'ERR_DELIVERY',
      message: 'a payload of archives cannot be delivered by "mount"',
      remedy: 'Set delivery to auto or extract',
    },
  );
});
