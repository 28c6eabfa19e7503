import { chmod, chown, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { disksUnavailable, makeDisk, type TestDisk } from '../disk.ts';
import { NOBODY } from '../foreign-registry.ts';
import { sealFiles } from '../prestage.ts';
import { type NodeSandbox, sandboxUnavailable } from '../sandbox.ts';
import { mountsBelow, openNodePlace } from './node-place.ts';
import type { CrashScenario, PreparedScenario } from './points.ts';

const MIB = 1024 * 1024;
const SIZE_MIB = 900;
const LABEL = 'data';
const unavailable = async (): Promise<string | undefined> => sandboxUnavailable() ?? (await disksUnavailable());

/** A directory for a scenario, readable for everyone. */
async function preparing(
  open: (work: string, stack: AsyncDisposableStack) => Promise<PreparedScenario['open']>,
): Promise<PreparedScenario> {
  const stack = new AsyncDisposableStack();
  const work = await mkdtemp(join(tmpdir(), 'partition-'));
  stack.defer(async () => await rm(work, { recursive: true, force: true }));
  await chmod(work, 0o755);
  return { open: await open(work, stack), [Symbol.asyncDispose]: async () => await stack.disposeAsync() };
}

/** Number, first and last sector, type and label of each partition, and what lies in the one of the label. */
async function tableOf(node: NodeSandbox, disk: string): Promise<readonly string[]> {
  const printed = await node.output('sgdisk', ['--print', disk]);
  const rows = printed.split('\n').flatMap((line) => (/^ +\d/.test(line) ? [line.trim().split(/ +/)] : []));
  return await Promise.all(
    rows.map(async ([number = '', first = '', last = '', ...rest]) => {
      const place = ['--offset', String(Number(first) * 512), '--size', String((Number(last) - Number(first) + 1) * 512)];
      const probe = await node.exec('blkid', ['--probe', '--output', 'value', '--match-tag', 'TYPE', ...place, disk]);
      return [number, first, last, ...rest, probe.stdout.trim()].join(' ');
    }),
  );
}

const create: CrashScenario = {
  name: 'partition create on a blank image',
  steps: ['reclaim-targets', 'attach-image', 'clear-place', 'write-table', 'announce-partition', 'format-partition'],
  unavailable,
  prepare: async () =>
    await preparing(async (work) => async () => {
      const disk = join(work, 'disk.img');
      await rm(disk, { force: true });
      await writeFile(disk, '');
      await truncate(disk, SIZE_MIB * MIB);
      const agreed = ['--reuse', '--yes', '--expect-serial', disk];
      return await openNodePlace(async (node) => ({
        args: ['partition', 'create', disk, '--size', '400MiB', '--label', LABEL, ...agreed],
        end: async () => [await tableOf(node, disk), await node.output('losetup', ['--associated', disk])],
      }));
    }),
};

/** The kernel knows the partition that goes, and its place overlaps that of the one that comes. */
const replace: CrashScenario = {
  name: 'partition create --replace on a disk',
  steps: ['forget-partition', 'clear-place', 'write-table', 'announce-partition', 'format-partition'],
  unavailable,
  prepare: async () =>
    await preparing(async (work) => async () => {
      const disk = await makeDisk({ directory: work, label: LABEL, partitionMiB: 400, sizeMiB: SIZE_MIB });
      const place = await openNodePlace(async (node) => {
        const serial = await node.output('losetup', ['--noheadings', '--output', 'BACK-FILE', disk.device]);
        return {
          args: [
            'partition',
            'create',
            disk.device,
            '--replace',
            '--size',
            '500MiB',
            '--label',
            LABEL,
            '--yes',
            '--expect-serial',
            serial.trim(),
          ],
          end: async () => await tableOf(node, disk.device),
        };
      });
      return {
        ...place,
        [Symbol.asyncDispose]: async () => {
          await place[Symbol.asyncDispose]();
          await disk[Symbol.asyncDispose]();
        },
      };
    }),
};

/** Formats the partition anew and puts an earlier bundle on it; `$1` is the partition, `$2` the bundle. */
const PUT = 'mkfs.xfs -q -f "$1" && mkdir -p /run/put && mount "$1" /run/put && cp -r "$2/." /run/put && umount /run/put';
/** Lists every file of the file system `$1` with its sha256. */
const LOOK =
  'mkdir -p /run/look && mount -o "$2" "$1" /run/look && (cd /run/look && find . -type f -exec sha256sum {} + | sort -k 2); umount /run/look';

const write: CrashScenario = {
  name: 'partition write over an earlier bundle',
  steps: [
    'reclaim-targets',
    'mount-target',
    'unmount-target',
    'mark-partition',
    'remove-replaced-file',
    'copy-bundle-file',
    'sync-target',
    'place-bundle-manifest',
    'remove-obsolete-file',
    'unmark-partition',
  ],
  unavailable,
  prepare: async () =>
    await preparing(async (work, stack) => {
      const { earlier, bundle } = await twoBundles(work);
      const disk = stack.use(await makeDisk({ directory: work, label: LABEL, partitionMiB: 320, sizeMiB: SIZE_MIB }));
      return async () =>
        await openNodePlace(async (node) => {
          await node.output('sh', ['-c', PUT, 'sh', disk.partition, earlier]);
          return {
            args: ['partition', 'write', bundle, disk.device, '--label', LABEL, ...(await agreedOn(node, disk))],
            end: async () => [
              await node.output('sh', ['-c', LOOK, 'sh', disk.partition, 'ro,norecovery']),
              await mountsBelow(node, '/run/prestage-agent'),
              await readdir(node.path('/run/prestage-agent/partitions')),
            ],
          };
        });
    }),
};

async function agreedOn(node: NodeSandbox, { device }: TestDisk): Promise<readonly string[]> {
  const serial = await node.output('losetup', ['--noheadings', '--output', 'BACK-FILE', device]);
  return ['--yes', '--expect-serial', serial.trim()];
}

async function twoBundles(work: string): Promise<{ readonly earlier: string; readonly bundle: string }> {
  const [earlier, bundle] = [join(work, 'earlier'), join(work, 'bundle')];
  await sealFiles(earlier, { 'README.txt': 'earlier', 'archives/stale.tgz': 'stale', 'archives/kept.tgz': 'kept' });
  await sealFiles(bundle, { 'README.txt': 'newer', 'archives/kept.tgz': 'kept', 'archives/new.tgz': Buffer.alloc(MIB, 'new') });
  return { earlier, bundle };
}

interface Imaging {
  readonly format: 'xfs' | 'ext4' | 'iso';
  readonly steps: CrashScenario['steps'];
}

/** Nobody: makes a disk without root, so with ext4. */
const WITHOUT_ROOT = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

function imaging({ format, steps }: Imaging): CrashScenario {
  return {
    name: `partition image (${format})`,
    steps,
    unavailable,
    prepare: async () =>
      await preparing(async (work) => {
        const { bundle } = await twoBundles(work);
        return async () => {
          const out = await mkdtemp(join(work, 'out-'));
          if (format === 'ext4') await chown(out, NOBODY, NOBODY);
          const image = join(out, 'data.img');
          return await openNodePlace(async (node) => ({
            args: ['partition', 'image', image, '--bundle', bundle, '--replace', '--format', format === 'iso' ? 'iso' : 'disk'],
            under: format === 'ext4' ? WITHOUT_ROOT : [],
            env: { SOURCE_DATE_EPOCH: '1700000000' },
            end: async () => [
              await readdir(out),
              await filesOf(node, image, format),
              await node.output('losetup', ['--associated', image]),
            ],
          }));
        };
      }),
  };
}

/** The files of an image; an ISO is the same to the byte. */
async function filesOf(node: NodeSandbox, image: string, format: Imaging['format']): Promise<string> {
  if (format === 'iso') return await node.output('sh', ['-c', 'sha256sum < "$1"', 'sh', image]);
  const [, first] = (await tableOf(node, image))[0]?.split(' ') ?? [];
  const options = `loop,offset=${Number(first) * 512},ro,${format === 'xfs' ? 'norecovery' : 'noload'}`;
  return await node.output('sh', ['-c', LOOK, 'sh', image, options]);
}

export const partitionScenarios: readonly CrashScenario[] = [
  create,
  replace,
  write,
  imaging({ format: 'xfs', steps: ['start-image', 'attach-image', 'write-table', 'format-partition', 'place-image', 'end-image'] }),
  imaging({ format: 'ext4', steps: ['stage-image-files', 'start-image', 'write-table', 'fill-image', 'place-image', 'end-image'] }),
  imaging({ format: 'iso', steps: ['fill-image', 'place-image', 'end-image'] }),
];
