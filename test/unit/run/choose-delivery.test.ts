import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseDelivery, type DeliveryFacts } from '../../../agent/run/choose-delivery.ts';
import { thrownBy } from '../../support/thrown.ts';

const FACTS: DeliveryFacts = {
  wanted: 'auto',
  stage: 'installed',
  hasStore: false,
  served: undefined,
  extractable: undefined,
  refusal: undefined,
};

test('auto mounts a store image, unless it cannot be used', () => {
  assert.deepEqual(chooseDelivery({ ...FACTS, hasStore: true, extractable: 'oci', served: 'registry' }), {
    kind: 'mount',
    extracts: false,
    reason: 'the bundle has a store image for the stage: nothing has to be unpacked',
  });
  assert.deepEqual(chooseDelivery({ ...FACTS, hasStore: true, extractable: 'oci', refusal: 'the store image x cannot be mounted: no' }), {
    kind: 'extract',
    extracts: true,
    reason: 'the store image x cannot be mounted: no; the oci payload is loaded into containers-storage',
  });
});

test('auto serves and extracts on the installed node, and only extracts in discovery, where the disk must become free', () => {
  const both = { ...FACTS, served: 'registry', extractable: 'oci' } as const;
  assert.deepEqual(chooseDelivery(both), {
    kind: 'registry',
    extracts: true,
    reason: 'the bundle has a registry tree, and images for containers-storage',
  });
  assert.deepEqual(chooseDelivery({ ...both, stage: 'discovery' }), {
    kind: 'extract',
    extracts: true,
    reason: 'the oci payload is loaded into containers-storage',
  });
});

test('auto serves what can be nothing but served, and refuses what it cannot deliver at all', () => {
  assert.deepEqual(chooseDelivery({ ...FACTS, served: 'oc-mirror', stage: 'discovery' }), {
    kind: 'registry',
    extracts: false,
    reason: 'the content of the bundle can only be served',
  });
  assert.deepEqual(
    thrownBy(() =>
      chooseDelivery({ ...FACTS, hasStore: true, refusal: 'the engines of this node do not accept the store image: too old' }),
    ),
    {
      code: 'ERR_PAYLOAD_MISSING',
      message: 'the engines of this node do not accept the store image: too old; the bundle has no other payload for the stage',
      remedy: 'Build the bundle with --payload store, oci or archives',
    },
  );
});

test('what is asked for is taken where the bundle allows it', () => {
  const reason = 'requested in the settings';
  assert.deepEqual(chooseDelivery({ ...FACTS, wanted: 'mount', hasStore: true }), { kind: 'mount', extracts: false, reason });
  assert.deepEqual(chooseDelivery({ ...FACTS, wanted: 'extract', extractable: 'archives', hasStore: true }), {
    kind: 'extract',
    extracts: true,
    reason,
  });
  assert.deepEqual(chooseDelivery({ ...FACTS, wanted: 'registry', served: 'registry' }), { kind: 'registry', extracts: false, reason });
  assert.deepEqual(chooseDelivery({ ...FACTS, wanted: 'registry', extractable: 'archives' }), {
    kind: 'registry',
    extracts: false,
    reason,
  });
});

test('a delivery that does not go with the bundle is refused', () => {
  assert.deepEqual(
    thrownBy(() => chooseDelivery({ ...FACTS, wanted: 'mount', extractable: 'archives' })),
    {
      code: 'ERR_DELIVERY',
      message: 'the content of the bundle for the stage (archives) cannot be delivered by "mount"',
      remedy: 'Build the bundle with --payload store, or set delivery to auto',
    },
  );
  assert.deepEqual(
    thrownBy(() => chooseDelivery({ ...FACTS, wanted: 'extract', hasStore: true, served: 'registry' })),
    {
      code: 'ERR_DELIVERY',
      message: 'the content of the bundle for the stage (store, registry) cannot be delivered by "extract"',
      remedy: 'Set delivery to auto',
    },
  );
  assert.deepEqual(
    thrownBy(() => chooseDelivery({ ...FACTS, wanted: 'registry' })),
    {
      code: 'ERR_DELIVERY',
      message: 'the content of the bundle for the stage (nothing) cannot be delivered by "registry"',
      remedy: 'Set delivery to auto',
    },
  );
});
