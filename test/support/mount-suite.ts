import { after, before, it } from 'node:test';
import {
  type DataDisk,
  type MountFixture,
  type MountNode,
  makeDataDisk,
  makeMountFixture,
  mountNodesUnavailable,
  openMountNode,
} from './mount-node.ts';
import type { SandboxOptions } from './sandbox.ts';

const unavailable = await mountNodesUnavailable();

/** What the tests of a suite share; where such nodes cannot be had, its tests are passed over. */
export interface MountSuite {
  readonly fixture: MountFixture;
  /** Has the bundle of the fixture. Throws where the suite has none. */
  readonly disk: DataDisk;
  /** Has something go with the suite, before what was made earlier. */
  readonly use: <T extends AsyncDisposable>(made: T) => T;
  readonly it: (what: string, act: () => Promise<void>) => void;
  /** A test on a node of its own. */
  readonly onNode: (what: string, act: (node: MountNode) => Promise<void>) => void;
}

export interface MountSuiteOptions {
  readonly payloads?: Parameters<typeof makeMountFixture>[0];
  /** Size of the data partition; with 0 there is no disk. */
  readonly partitionMiB?: number;
  /** Of the nodes that the tests have of their own. */
  readonly node?: SandboxOptions;
  /** Goes on before the first test, when fixture and disk are there. */
  readonly prepare?: (suite: MountSuite) => Promise<void>;
}

/** Makes what the tests of the surrounding `describe` share before the first of them, and takes it away behind the last. */
export function mountSuite({ payloads, partitionMiB, node, prepare }: MountSuiteOptions = {}): MountSuite {
  const stack = new AsyncDisposableStack();
  let fixture: MountFixture | undefined;
  let disk: DataDisk | undefined;
  const there = <T>(made: T | undefined): T => {
    if (made === undefined) throw new Error('what the tests share is made before the first of them, where it is asked for');
    return made;
  };
  const passed: MountSuite['it'] = (what, act) => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };
  const suite: MountSuite = {
    get fixture() {
      return there(fixture);
    },
    get disk() {
      return there(disk);
    },
    use: (one) => stack.use(one),
    it: passed,
    onNode: (what, act) =>
      passed(what, async () => {
        await using own = await openMountNode(suite.fixture, node);
        await act(own);
      }),
  };
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = stack.use(await makeMountFixture(payloads));
    if (partitionMiB !== 0) disk = stack.use(await makeDataDisk(fixture, partitionMiB));
    await prepare?.(suite);
  });
  after(async () => await stack.disposeAsync());
  return suite;
}
