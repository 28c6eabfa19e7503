import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import { answering, lineageOf, listeningSockets, parseListening, socketHolders } from '../../../agent/host/listeners.ts';
import { provenHealth } from '../../../agent/registry/serve/service-health.ts';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
const TCP = `${HEADER}   0: 0100007F:0131 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 23456 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0000000000000000 100 0 0 10 0
   2: 0100007F:D431 0100007F:0131 01 00000000:00000000 00:00000000 00000000 65534        0 777 1 0000000000000000 20 4 30 10 -1
`;
const TCP6 = `${HEADER}   0: 000080FE00000000FF005450B6AD1DFE:1538 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 65534        0 42 1 0000000000000000 100 0 0 10 0
`;

describe('who listens', () => {
  it('is read from the tables of the kernel, without what is connected', () => {
    assert.deepEqual([TCP, TCP6, ''].map(parseListening), [
      [
        { address: '127.0.0.1', port: 305, uid: 0, inode: '23456' },
        { address: '0.0.0.0', port: 22, uid: 0, inode: '100' },
      ],
      [{ address: 'fe80:0000:0000:0000:5054:00ff:fe1d:adb6', port: 5432, uid: 65_534, inode: '42' }],
      [],
    ]);
  });

  const at = (address: string, inode: string) => ({ address, port: 305, uid: 0, inode });
  const all6 = at('0000:0000:0000:0000:0000:0000:0000:0000', 'all6');
  const cases = [
    { what: 'bound to it', sockets: [at('0.0.0.0', 'all'), at('127.0.0.1', 'own'), all6], to: '127.0.0.1', inodes: ['own'] },
    {
      what: 'bound to all addresses where none is',
      sockets: [at('0.0.0.0', 'all'), at('127.0.0.2', 'b'), all6],
      to: '127.0.0.1',
      inodes: ['all', 'all6'],
    },
    {
      what: 'bound to it as IPv6 writes it',
      sockets: [at('0000:0000:0000:0000:0000:ffff:7f00:0001', 'mapped'), all6],
      to: '127.0.0.1',
      inodes: ['mapped'],
    },
    {
      what: 'bound to it by IPv6',
      sockets: [at('0000:0000:0000:0000:0000:0000:0000:0001', 'v6'), at('127.0.0.1', 'v4')],
      to: '::1',
      inodes: ['v6'],
    },
    { what: 'of its port alone', sockets: [{ ...at('127.0.0.1', 'other'), port: 306 }], to: '127.0.0.1', inodes: [] },
  ];
  for (const { what, sockets, to, inodes } of cases) {
    it(`for an address is the socket ${what}`, () =>
      assert.deepEqual(
        answering(sockets, to, 305).map(({ inode }) => inode),
        inodes,
      ));
  }

  for (const address of ['127.0.0.1', '::1', '0.0.0.0', '::']) {
    it(`on ${address} is found with its user and its process`, async () => {
      const server = createServer();
      server.listen({ port: 0, host: address });
      await once(server, 'listening');
      try {
        const bound = server.address();
        const port = typeof bound === 'object' && bound !== null ? bound.port : assert.fail('it listens on no port');
        const found = answering(await listeningSockets(), address.includes(':') ? '::1' : '127.0.0.1', port);
        assert.deepEqual(
          found.map(({ uid }) => uid),
          [process.getuid?.()],
        );
        assert.deepEqual(await socketHolders(found[0]?.inode ?? ''), [process.pid]);
      } finally {
        server.close();
      }
    });
  }

  it('comes from those that started it', async () => {
    assert.deepEqual((await lineageOf(process.pid)).slice(0, 2), [process.pid, process.ppid]);
    assert.deepEqual(await lineageOf(0), []);
  });
});

it('an answer of a registry is worth something where the registry that was started listens, and nowhere else', () => {
  const answer = { healthy: true, reason: 'GET /v2/ answers' };
  const refused = { healthy: false, reason: 'GET /v2/ fails: refused' };
  const told = ([health, listener]: Parameters<typeof provenHealth>) => {
    const { healthy, reason } = provenHealth(health, listener);
    return [healthy, reason];
  };
  const calls: readonly Parameters<typeof provenHealth>[] = [
    [answer, { kind: 'ours' }],
    [refused, { kind: 'ours' }],
    [answer, { kind: 'other', who: 'python3 (pid 7) of root' }],
    [answer, { kind: 'nobody' }],
    [refused, { kind: 'nobody' }],
    [answer, { kind: 'unseen', reason: 'only root sees' }],
  ];
  assert.deepEqual(calls.map(told), [
    [true, 'GET /v2/ answers'],
    [false, 'GET /v2/ fails: refused'],
    [false, 'another program listens there: python3 (pid 7) of root'],
    [false, 'it answered, and ended'],
    [false, 'GET /v2/ fails: refused'],
    [false, 'only root sees'],
  ]);
});
