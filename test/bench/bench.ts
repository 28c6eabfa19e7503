import { stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { TOP } from '../support/cache.ts';
import { archiveName } from '../support/image-archives.ts';
import { type BenchSet, bigSet, tinySet } from './bench-images.ts';
import { benchBuild } from './build.ts';
import { benchCompression } from './compression.ts';
import { type Measurement, measure, type Subject } from './measure.ts';
import { benchMount, benchMountSize } from './mount.ts';
import { benchOcMirror } from './oc-mirror.ts';
import { benchPull } from './pull.ts';
import { benchRegistry } from './registry.ts';
import { barsOf, type Findings, isHeld, type PartFindings, renderFindings } from './report.ts';
import { benchSize } from './size.ts';
import { benchVerify } from './verify.ts';
import { EXECUTABLE, makeWorkplace, type Workplace } from './workplace.ts';

const USAGE = `Usage: npm run bench -- [--only PART]... [--repeat N] [--json FILE] [--check]
Measures the agent against its predecessor's flow on one set of real images, with caches dropped.
  --only PART   one, four, skopeo, agent, startup, noop, pull, verify, build, compression, oc-mirror, mount, mount-size, registry or size; several times for several; all where left out
  --repeat N    measure the loads N times and take the median by wall time (default 1)
  --json FILE   write the findings there, too
  --check       end with 1 where a bar is not held
`;

const PARTS = [
  'one',
  'four',
  'skopeo',
  'agent',
  'startup',
  'noop',
  'pull',
  'verify',
  'build',
  'compression',
  'oc-mirror',
  'mount',
  'mount-size',
  'registry',
  'size',
] as const;
type Part = (typeof PARTS)[number];

const say = (text: string) => process.stderr.write(`${text}\n`);

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true, default: [] },
      repeat: { type: 'string', default: '1' },
      json: { type: 'string' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const unknown = values.only.find((word) => !PARTS.some((part) => part === word));
  const repeat = Number(values.repeat);
  if (unknown !== undefined || !Number.isInteger(repeat) || repeat < 1) {
    say(`${unknown === undefined ? `--repeat is ${values.repeat}, not a whole number from 1` : `--only ${unknown} is no part`}\n${USAGE}`);
    return 2;
  }
  if (process.getuid?.() !== 0) {
    say('The bench drops the page cache and mounts a tmpfs: run it as root.');
    return 2;
  }
  const wants = (part: Part) => values.only.length === 0 || values.only.includes(part);
  await output(execOnLinux, process.execPath, [join(TOP, 'build.mjs'), '--if-stale']);
  const findings = await bench(wants, repeat);
  process.stdout.write(`${availableParallelism()} cores\n${renderFindings(findings)}`);
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(findings, undefined, 2)}\n`);
  return values.check && !barsOf(findings).every(isHeld) ? 1 : 0;
}

async function bench(wants: (part: Part) => boolean, repeat: number): Promise<Findings> {
  say('making the images (some minutes the first time)');
  const set = await bigSet();
  const loads = {
    oneAtATime: wants('one') && ((place: Workplace) => place.prototype(set.archives, 1)),
    fourAtATime: wants('four') && ((place: Workplace) => place.prototype(set.archives, 4)),
    skopeo: wants('skopeo') && ((place: Workplace) => place.skopeo(set)),
    agent: wants('agent') && ((place: Workplace) => place.agent(set.archives)),
  };
  const measured: Record<string, Measurement[]> = {};
  // Round by round, so that a noisy spell of the machine meets all of them.
  for (let round = 1; round <= repeat; round++) {
    for (const [name, subject] of Object.entries(loads)) {
      if (!subject) continue;
      say(`measuring ${name}, ${round} of ${repeat}`);
      measured[name] = [...(measured[name] ?? []), await measureLoad(subject, set)];
    }
  }
  const medians = Object.fromEntries(Object.entries(measured).map(([name, all]) => [name, median(all, (found) => found.wallSeconds)]));
  return {
    set: await describe(set),
    ...medians,
    ...(wants('startup') && { startupMs: await measureStartup() }),
    ...(wants('noop') && { noopSeconds: await measureNoop() }),
    factory: await benchFactory(wants, set),
  };
}

async function benchFactory(wants: (part: Part) => boolean, set: BenchSet): Promise<readonly PartFindings[]> {
  const parts: PartFindings[] = [];
  if (wants('pull')) {
    say('measuring pull against the flow of the prototype');
    parts.push(await benchPull(set));
  }
  if (wants('verify')) {
    say('measuring verify against sha256sum');
    parts.push(await benchVerify(set));
  }
  if (wants('build')) {
    say("measuring build's squashfs act against mksquashfs alone");
    parts.push(await benchBuild(set));
  }
  if (wants('compression')) {
    say('measuring the compressions of store images');
    parts.push(await benchCompression(set));
  }
  if (wants('oc-mirror')) {
    say("measuring the unpacking of oc-mirror's archives against tar");
    parts.push(await benchOcMirror(set));
  }
  if (wants('mount')) {
    say('measuring the mount delivery (its bundles take some minutes the first time)');
    parts.push(await benchMount(set));
  }
  if (wants('mount-size')) {
    say('measuring the mount of thousands of images, and of a gigabyte from memory (its bundles take long the first time)');
    parts.push(await benchMountSize());
  }
  if (wants('registry')) {
    say('measuring the registry delivery against a registry that was filled by pushes');
    parts.push(await benchRegistry(set));
  }
  if (wants('size')) {
    say('measuring what thousands of images cost');
    parts.push(await benchSize());
  }
  return parts;
}

async function measureLoad(subject: (place: Workplace) => Subject | Promise<Subject>, set: BenchSet): Promise<Measurement> {
  await using place = await makeWorkplace();
  const found = await measure(await subject(place));
  const stored = await output(execOnLinux, 'podman', [
    '--root',
    place.graphroot,
    '--runroot',
    place.runroot,
    'images',
    '--format',
    '{{.Digest}}',
  ]);
  const missing = set.images.filter((image) => !stored.includes(image.digest));
  if (found.exitCode !== 0 || missing.length > 0) {
    throw new Error(
      `the load ended with ${found.exitCode} and left ${missing.length} of ${set.images.length} images out:\n${found.stderr.slice(-2000)}`,
    );
  }
  return found;
}

async function measureStartup(): Promise<number> {
  say('measuring the start to --version');
  const times: number[] = [];
  for (let index = 0; index < 20; index++) {
    const started = performance.now();
    await output(execOnLinux, EXECUTABLE, ['--version']);
    times.push(performance.now() - started);
  }
  return median(times, (time) => time) ?? 0;
}

async function measureNoop(): Promise<number> {
  say('measuring a run that finds 180 images present');
  const set = await tinySet();
  await using place = await makeWorkplace();
  await measureRun(place.agent(set.archives));
  const times: number[] = [];
  for (let index = 0; index < 3; index++) times.push(await measureRun(place.agent(set.archives)));
  return median(times, (time) => time) ?? 0;
}

async function measureRun(subject: Subject): Promise<number> {
  const [file = '', ...args] = subject.argv;
  const started = performance.now();
  await output(execOnLinux, file, args);
  return (performance.now() - started) / 1000;
}

async function describe(set: BenchSet): Promise<Findings['set']> {
  const layers = new Map(
    set.images.flatMap((image) => image.instances.flatMap((instance) => instance.layers)).map((layer) => [layer.digest, layer]),
  );
  const archives = await Promise.all(
    set.images.map(async (image) => (await stat(join(set.archives, `${archiveName(image.reference)}.tgz`))).size),
  );
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  return {
    images: set.images.length,
    archiveBytes: sum(archives),
    biggestImageBytes: Math.max(...set.images.map((image) => sum((image.instances[0]?.layers ?? []).map((layer) => layer.unpackedBytes)))),
    layerBytes: sum([...layers.values()].map((layer) => layer.sizeBytes)),
    unpackedBytes: sum([...layers.values()].map((layer) => layer.unpackedBytes)),
  };
}

function median<T>(all: readonly T[], by: (one: T) => number): T | undefined {
  return all.toSorted((a, b) => by(a) - by(b))[Math.floor(all.length / 2)];
}

process.exitCode = await main();
