import assert from 'node:assert/strict';
import { copyFile, cp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readArchives } from '../../../agent/extract/archives.ts';
import { plainAct } from '../../../agent/host/acts.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { resolveSettings } from '../../../agent/model/settings.ts';
import { run } from '../../../agent/run/run.ts';
import { collectStatus } from '../../../agent/status/collect.ts';
import { makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { damaged } from '../../support/damage.ts';
import { archiveName } from '../../support/image-archives.ts';
import { assertLoaded, recordedDigests } from '../../support/loaded.ts';
import { archivePath, copyFolder, makeTinyBundle, repack, type TinyBundle } from '../../support/tiny-bundle.ts';

/** Seeds of each kind of file; the archives themselves have hundreds of their own in archive-corruption.test.ts. */
const SEEDS = 100;
/** Fewer, since each plans a whole run. */
const SURVEY_SEEDS = 60;

describe('a damaged file', () => {
  let sandbox: Sandbox;
  let bundle: TinyBundle;
  before(async () => {
    sandbox = await makeSandbox();
    bundle = await makeTinyBundle(sandbox.work);
    await sandbox.run(['--bundle', bundle.directory]);
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  /** What a run would do, and what it says, in this process: the executable would take minutes. */
  const plan = async (root: string, directory = bundle.directory) => {
    const warnings: string[] = [];
    const log = (severity: string, message: string) => void (severity === 'warning' && warnings.push(message));
    const never = new AbortController().signal;
    const settings = { ...resolveSettings({ flags: { bundle: directory, root } }), stage: 'discovery' } as const;
    const options = { settings, act: plainAct, stop: never, kill: never, onEvent: () => undefined, isDry: true };
    const { steps, state } = await run(linuxHost({ root, env: {}, log }), options);
    return { steps, error: state.error, warnings };
  };

  it(`of surveys changes no plan: ${SURVEY_SEEDS} seeds`, async (t) => {
    const root = join(sandbox.work, 'surveyed');
    const path = join(root, 'var/lib/prestage-agent/surveys.json');
    const whole = await readFile(join(sandbox.root, 'var/lib/prestage-agent/surveys.json'));
    await copyRecords(sandbox.root, root);
    const expected = await plan(root);
    assert.deepEqual([expected.steps.map(({ kind }) => kind), expected.warnings], [['load', 'load', 'load'], []]);
    const counts = new Map<string, number>();
    for (let seed = 0; seed < SURVEY_SEEDS; seed++) {
      const { what, bytes } = damaged(whole, seed);
      await writeFile(path, bytes);
      const actual = await plan(root);
      assert.deepEqual([actual.steps, actual.error], [expected.steps, undefined], `seed ${seed}, ${what}`);
      count(counts, bytes.equals(whole) ? 'same bytes' : actual.warnings.length > 0 ? 'noticed' : 'harmless');
    }
    t.diagnostic(told(counts));
    assert.ok((counts.get('noticed') ?? 0) > SURVEY_SEEDS * 0.8, told(counts));
  });

  it(`of the state never keeps a run from its plan: ${SEEDS} seeds`, async (t) => {
    const root = join(sandbox.work, 'recorded');
    await copyRecords(sandbox.root, root);
    const path = join(root, 'var/lib/prestage-agent/state.json');
    const whole = await readFile(path);
    const expected = await plan(root);
    const counts = new Map<string, number>();
    for (let seed = 0; seed < SEEDS; seed++) {
      await writeFile(path, damaged(whole, seed).bytes);
      const { steps, error } = await plan(root);
      assert.deepEqual([steps, error], [expected.steps, undefined], `seed ${seed}`);
      count(counts, (await collectStatus(linuxHost({ root, env: {}, log: () => undefined }))).status.readiness);
    }
    t.diagnostic(told(counts));
  });

  it(`of the settings is refused with its place, or says another value that is allowed: ${SEEDS} seeds`, (t) => {
    const text = 'stage: discovery\nlabel: data\nretries: 3\npolicy: open\nparallel: 2\ndevice-wait: 60\nlock-wait: 0\n';
    const path = '/etc/prestage-agent/config.yaml';
    const expected = resolveSettings({ file: { path, text } });
    const counts = new Map<string, number>();
    for (let seed = 0; seed < SEEDS; seed++) {
      const { bytes } = damaged(Buffer.from(text), seed);
      try {
        const settings = resolveSettings({ file: { path, text: bytes.toString() } });
        count(counts, JSON.stringify(settings) === JSON.stringify(expected) ? 'same settings' : 'another allowed value');
      } catch (error) {
        const { code, message } = errorRecord(error);
        assert.equal(code, 'ERR_SETTINGS', `seed ${seed}: ${message}`);
        assert.match(message, /config\.yaml:\d+/, `seed ${seed}`);
        count(counts, 'refused');
      }
    }
    t.diagnostic(told(counts));
  });

  for (const [name, seeds] of [
    ['ai-images.txt', 2 * SEEDS],
    ['mapping.txt', SEEDS],
  ] as const) {
    it(`of ${name} loads nothing that has another digest than it is named by: ${seeds} seeds`, async (t) => {
      const directory = await copyFolder(bundle, join(sandbox.work, `fuzzed-${name}`));
      const whole = await readFile(join(directory, name));
      const digests = new Set(bundle.images.map(({ digest }) => digest));
      const archives = new Set(bundle.images.map(({ reference }) => archiveName(reference)));
      const counts = new Map<string, number>();
      for (let seed = 0; seed < seeds; seed++) {
        await writeFile(join(directory, name), damaged(whole, seed).bytes);
        const payload = await readArchives(directory, 'discovery').catch(errorRecord);
        if ('code' in payload) {
          assert.ok(['ERR_LIST', 'ERR_MAPPING'].includes(payload.code), `seed ${seed}: ${payload.code} ${payload.message}`);
          assert.match(payload.message, new RegExp(`${name}`), `seed ${seed}`);
          count(counts, 'refused with its place');
          continue;
        }
        for (const image of payload.images) {
          assert.ok(archives.has(image.archive.name), `seed ${seed}: ${image.archive.name}`);
          assert.ok(image.digest === undefined || digests.has(image.digest), `seed ${seed}: ${image.digest}`);
        }
        const names = payload.images.flatMap((image) => image.names).toSorted();
        const expected = [...bundle.images.map(({ reference }) => reference), bundle.mappedName].toSorted();
        if (payload.refused.length > 0) count(counts, 'reported image by image');
        else if (JSON.stringify(names) === JSON.stringify(expected)) count(counts, 'harmless');
        else
          count(
            counts,
            names.length < expected.length ? 'fewer names (only a sealed bundle can tell)' : 'another name (only a sealed bundle can tell)',
          );
      }
      t.diagnostic(told(counts));
    });
  }

  for (const [what, damage] of [
    [
      'a flipped bit',
      async (path: string) => await inPlace(path, (bytes) => bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 4, bytes.length >> 1)),
    ],
    ['a zeroed block', async (path: string) => await inPlace(path, (bytes) => bytes.fill(0, 20_000, 24_096))],
    ['its end cut off', async (path: string) => await writeFile(path, (await readFile(path)).subarray(0, -4096))],
    ["another image's content", async (_path: string, directory: string) => await exchange(directory)],
  ] as const) {
    it(`that is an archive with ${what} is refused by the executable, and the others are loaded`, async () => {
      await using own = await makeSandbox();
      const directory = await copyFolder(bundle, join(own.work, 'bundle'));
      const [first, second, third] = bundle.images;
      assert.ok(first && second && third);
      await damage(archivePath(directory, third.reference), directory);
      const { exitCode, state } = await own.run(['--bundle', directory]);
      assert.deepEqual([exitCode, statesOf(state).map(([, was]) => was)], [3, ['loaded', 'loaded', 'failed']]);
      assert.match(state.images[2]?.error?.code ?? '', /^ERR_ARCHIVE_/);
      await assertLoaded(own, [first, second]);
      assert.equal((await recordedDigests(own.graphroot)).has(third.reference), false);
    });
  }

  /** The third image's archive becomes a right one of the second image. */
  async function exchange(directory: string): Promise<void> {
    const [, second, third] = bundle.images;
    assert.ok(second && third);
    await copyFile(archivePath(directory, second.reference), archivePath(directory, third.reference));
    await rm(archivePath(directory, second.reference));
    await repack(directory, third.reference, async (layout) => await rename(join(layout, '..', archiveName(second.reference)), layout));
    await copyFile(archivePath(bundle.directory, second.reference), archivePath(directory, second.reference));
  }
});

/** State and surveys of a root, without its storage. */
async function copyRecords(from: string, to: string): Promise<void> {
  await cp(join(from, 'var/lib/prestage-agent'), join(to, 'var/lib/prestage-agent'), { recursive: true });
}

async function inPlace(path: string, change: (bytes: Buffer) => unknown): Promise<void> {
  const bytes = await readFile(path);
  change(bytes);
  await writeFile(path, bytes);
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

function told(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([what, number]) => `${number} ${what}`).join(', ');
}
