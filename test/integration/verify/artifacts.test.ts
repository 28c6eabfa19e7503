import assert from 'node:assert/strict';
import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readManifest } from '../../../agent/bundle/read-bundle.ts';
import { readStageBundle } from '../../../agent/bundle/read-payload.ts';
import { readOciLayout } from '../../../agent/extract/oci-layout.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { type Digest, hexOf } from '../../../agent/model/digest.ts';
import { type ErrorRecord, errorRecord } from '../../../agent/model/errors.ts';
import { parseReference } from '../../../agent/model/reference.ts';
import { type VerifyReport, verify } from '../../../agent/verify/verify.ts';
import { makeChart, makeWindowsImage } from '../../support/artifacts.ts';
import { runBuild } from '../../support/build.ts';
import { writeArchives } from '../../support/image-archives.ts';
import { writeBlob } from '../../support/image-layer.ts';
import { smallImageSet } from '../../support/image-set.ts';
import { type MadeImage, makeIndex, writeOciLayout } from '../../support/images.ts';
import { tryPull } from '../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../support/registry.ts';

const set = await smallImageSet();
const { release, otherArchitecture } = set.images;
const host = linuxHost({ root: '/', env: {}, log: () => undefined });

const errorOf = async (work: Promise<unknown>): Promise<ErrorRecord> =>
  errorRecord(
    await work.then(
      () => assert.fail(),
      (error: unknown) => error,
    ),
  );
const verifyAt = async (path: string, mode: 'quick' | 'full' = 'full'): Promise<VerifyReport> =>
  await verify(host, { path, mode, label: 'data', parallel: 2, architecture: 'amd64', signal: new AbortController().signal });

describe('lists and layouts with a Helm chart', () => {
  let work: string;
  let chart: MadeImage;
  let registry: Registry;
  /** An image and the chart, as the registry names them. */
  let lines: readonly string[];
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'artifacts-'));
    chart = await makeChart(set.store, 'quay.io/e/charts/chart:1.0.0');
    registry = await startRegistry({ near: set.store });
    lines = await registry.add(set.store, [release, chart]);
  });
  after(async () => {
    await registry[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });
  const refusal = (where: string, remedy = 'Take it off the list, or give --skip-artifacts to pull and build'): ErrorRecord => ({
    code: 'ERR_NOT_IMAGE',
    message: `${where} is a Helm chart, not a container image for Linux`,
    remedy,
  });

  it('pull fails that line and brings the others', async () => {
    const { report } = await tryPull(join(work, 'failed'), lines);
    assert.equal(report.outcome, 'partial');
    assert.deepEqual(
      report.images.map(({ reference, state, error }) => [reference, state, error]),
      [
        [lines[0], 'pulled', undefined],
        [lines[1], 'failed', refusal(String(lines[1]))],
      ],
    );
  });

  it('pull leaves it out if it may, and build knows it then as what it is', async () => {
    const to = join(work, 'skipped');
    const { report } = await tryPull(to, lines, { skipsArtifacts: true });
    assert.deepEqual([report.outcome, report.images.map(({ state }) => state)], ['complete', ['pulled', 'left-out']]);
    assert.deepEqual((await readOciLayout(to)).length, 1);
    const list = join(work, 'list.txt');
    await writeFile(list, lines.map((line) => `${line}\n`).join(''));
    const building = { from: to, to: join(work, 'bundle'), lists: { installed: list }, payloads: ['oci', 'archives'] as const };
    assert.deepEqual(
      await errorOf(runBuild(building)),
      refusal(`installed: ${lines[1]} is left out: ${lines[1]}`, 'Take these lines off the lists, or build with --skip-artifacts'),
    );
    const { messages } = await runBuild({ ...building, skipsArtifacts: true });
    assert.ok(
      messages.some((message) => message.startsWith(`notice: installed: ${lines[1]} is left out: `)),
      messages.join('\n'),
    );
    const { faults, images } = await verifyAt(join(work, 'bundle'));
    assert.deepEqual([faults, images], [[], { installed: 1 }]);
    assert.equal(await readFile(join(work, 'bundle/archives/ocp-images.txt'), 'utf8'), `${lines[0]}\n`);
    // What is an image by now counts as one.
    assert.equal((await tryPull(to, lines.slice(0, 1))).report.outcome, 'complete');
    await tryPull(to, lines);
    assert.equal(await readFile(join(to, 'left-out.json'), 'utf8'), '{\n "leftOut": {}\n}\n');
  });

  it('pull writes no line for it beside archives', async () => {
    const to = join(work, 'archives');
    const { report } = await tryPull(to, lines, { format: 'archives', skipsArtifacts: true });
    assert.deepEqual([report.outcome, await readFile(join(to, 'ocp-images.txt'), 'utf8')], ['complete', `${lines[0]}\n`]);
  });

  it('build names its line, and makes the bundle of the others if it may', async () => {
    for (const form of ['layout', 'folder'] as const) {
      const from = join(work, `from-${form}`);
      if (form === 'layout') await writeOciLayout(set.store, [release, chart], from);
      else await writeArchives(set.store, from, { lists: { 'ocp-images.txt': [release, chart] } });
      const list = join(from, 'ocp-images.txt');
      if (form === 'layout') await writeFile(list, `${release.reference}\n${chart.reference}\n`);
      const to = join(work, `built-${form}`);
      const where = form === 'layout' ? join(from, 'blobs/sha256', hexOf(chart.digest)) : join(from, 'chart_1.0.0.tgz');
      assert.deepEqual(
        await errorOf(runBuild({ from, to })),
        refusal(`installed: ${chart.reference}: ${where}`, 'Take these lines off the lists, or build with --skip-artifacts'),
      );
      const payloads = form === 'layout' ? (['oci'] as const) : (['archives'] as const);
      const { messages } = await runBuild({ from, to, payloads, skipsArtifacts: true });
      assert.ok(messages.includes(`notice: ${chart.reference} is left out: it is not a container image`), messages.join('\n'));
      assert.deepEqual((await verifyAt(to)).faults, []);
    }
  });

  it('verify and the node leave it out with its place, and what has no full name as well', async () => {
    const directory = join(work, 'named');
    await writeOciLayout(
      set.store,
      [release, chart, { ...release, reference: '1.0' }, { ...otherArchitecture, reference: 'app:1' }],
      directory,
    );
    const index = join(directory, 'index.json');
    const skipped = [
      `${index}: manifests.3 is left out: ${otherArchitecture.digest} is named "app:1", which is not a full name (registry/repository:tag)`,
      `${index}: manifests.1, ${chart.reference}, is left out: ${refusal(join(directory, 'blobs/sha256', hexOf(chart.digest))).message}`,
    ];
    for (const mode of ['quick', 'full'] as const) {
      const { faults, notices } = await verifyAt(directory, mode);
      assert.deepEqual([faults, notices], [[], skipped]);
    }
    const bundle = await readStageBundle({ directory, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    const { images, refused, notices, listed } = await bundle.payload();
    assert.deepEqual(
      [images.map(({ names }) => names), refused, listed, notices.slice(1)],
      [[[release.reference]], [], [release.reference], skipped],
    );
  });

  it('images that are named in an index below the index are verified, loaded and built, and one without a name is built by its digest', async () => {
    const directory = join(work, 'nested');
    const nameless = { ...set.images.agent, reference: '1.0' };
    await writeOciLayout(set.store, [release, otherArchitecture, nameless], directory);
    const top = await readFile(join(directory, 'index.json'), 'utf8');
    const inner = await writeBlob(directory, top);
    const manifests = [{ mediaType: 'application/vnd.oci.image.index.v1+json', digest: inner.digest, size: inner.sizeBytes }];
    await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
    const skipped = `${join(directory, 'index.json')}: manifests.0.manifests.2 is left out: ${nameless.digest} is named "1.0", which is not a full name (registry/repository:tag)`;
    const { faults, notices } = await verifyAt(directory);
    assert.deepEqual([faults, notices], [[], [skipped]]);
    const bundle = await readStageBundle({ directory, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    assert.deepEqual((await bundle.payload()).listed, [release.reference, otherArchitecture.reference]);
    const named = `registry.example.com/named/agent@${nameless.digest}`;
    await writeFile(join(directory, 'ocp-images.txt'), `${release.reference}\n${named}\n`);
    await runBuild({ from: directory, to: join(work, 'of-nested'), payloads: ['oci'] });
    const built = await verifyAt(join(work, 'of-nested'));
    assert.deepEqual([built.faults, built.images], [[], { installed: 2 }]);
  });

  it('a layout without any image by a full name is no payload', async () => {
    const directory = join(work, 'nameless');
    await writeOciLayout(set.store, [{ ...release, reference: '1.0' }], directory);
    const bundle = await readStageBundle({ directory, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    assert.deepEqual(await errorOf(bundle.payload()), {
      code: 'ERR_LAYOUT',
      message: `${join(directory, 'index.json')}: manifests.0 is left out: ${release.digest} is named "1.0", which is not a full name (registry/repository:tag)`,
      remedy: 'Give the images full names in the layout, or build a bundle from a list that names them by digest',
    });
  });
});

describe('lists and layouts with images for Windows that have ordinary layers', () => {
  let work: string;
  /** One that stands alone, and a list of it. */
  let windows: readonly MadeImage[];
  let registry: Registry;
  let lines: readonly string[];
  const WHAT = ['an image for "windows"', 'a list of images for "windows" alone'];
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'windows-'));
    const alone = await makeWindowsImage(set.store, 'mcr.example.com/windows/nanoserver');
    const list = await makeIndex(set.store, { name: 'mcr.example.com/windows/list', tag: '1', format: 'docker', instances: [alone] });
    windows = [alone, list];
    registry = await startRegistry({ near: set.store });
    lines = await registry.add(set.store, [release, ...windows]);
  });
  after(async () => {
    await registry[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });

  it('pull fails these lines and brings the others, or leaves them out if it may, in both forms', async () => {
    for (const format of ['oci', 'archives'] as const) {
      const failed = await tryPull(join(work, `failed-${format}`), lines, { format });
      assert.deepEqual(
        [failed.report.outcome, failed.report.images.map(({ state, error }) => [state, error?.code, error?.message])],
        [
          'partial',
          [
            ['pulled', undefined, undefined],
            ['failed', 'ERR_NOT_IMAGE', `${lines[1]} is ${WHAT[0]}, not a container image for Linux`],
            ['failed', 'ERR_NOT_IMAGE', `${lines[2]} is ${WHAT[1]}, not a container image for Linux`],
          ],
        ],
      );
      const to = join(work, `skipped-${format}`);
      const { report } = await tryPull(to, lines, { format, skipsArtifacts: true });
      assert.deepEqual([report.outcome, report.images.map(({ state }) => state)], ['complete', ['pulled', 'left-out', 'left-out']]);
      const leftOut: unknown = JSON.parse(await readFile(join(to, 'left-out.json'), 'utf8'));
      const expected = lines.slice(1).map((line, index) => [line, `${line} is ${WHAT[index]}, not a container image for Linux`]);
      assert.deepEqual(leftOut, { leftOut: Object.fromEntries(expected) });
    }
    assert.equal((await readOciLayout(join(work, 'skipped-oci'))).length, 1);
    assert.equal(await readFile(join(work, 'skipped-archives/ocp-images.txt'), 'utf8'), `${lines[0]}\n`);
  });

  it('verify and the node leave them out of a layout, and build takes the others if it may', async () => {
    const from = join(work, 'layout');
    await writeOciLayout(set.store, [release, ...windows], from);
    const { faults, notices } = await verifyAt(from);
    assert.deepEqual([faults, notices.map((notice) => / is left out: .* is (.*), not a container/.exec(notice)?.[1])], [[], WHAT]);
    const bundle = await readStageBundle({ directory: from, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    assert.deepEqual((await bundle.payload()).listed, [release.reference]);
    await writeFile(join(from, 'ocp-images.txt'), [release, ...windows].map(({ reference }) => `${reference}\n`).join(''));
    assert.equal((await errorOf(runBuild({ from, to: join(work, 'bundle') }))).code, 'ERR_NOT_IMAGE');
    await runBuild({ from, to: join(work, 'bundle'), payloads: ['oci'], skipsArtifacts: true });
    const built = await verifyAt(join(work, 'bundle'));
    assert.deepEqual([built.faults, built.images], [[], { installed: 1 }]);
  });

  it('verify names their archives, and build takes the others if it may', async () => {
    const from = join(work, 'archives');
    await writeArchives(set.store, from, { lists: { 'ocp-images.txt': [release, ...windows] } });
    const { faults } = await verifyAt(from);
    assert.deepEqual(
      faults.map(({ path, code }) => [path, code]),
      [
        ['list_1.tgz', 'ERR_NOT_IMAGE'],
        ['nanoserver_ltsc2022.tgz', 'ERR_NOT_IMAGE'],
      ],
    );
    await runBuild({ from, to: join(work, 'of-archives'), payloads: ['archives'], skipsArtifacts: true });
    const built = await verifyAt(join(work, 'of-archives'));
    assert.deepEqual([built.faults, built.images], [[], { installed: 1 }]);
  });
});

describe('a list of platforms of which the registry has some', () => {
  let work: string;
  let registry: Registry;
  let line: string;
  const instance = (architecture: string): Digest =>
    otherArchitecture.instances.find((one) => one.architecture === architecture)?.manifest.digest ?? assert.fail();
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'absent-'));
    registry = await startRegistry({ near: set.store });
    [line = ''] = await registry.add(set.store, [otherArchitecture]);
    const { repository } = parseReference(otherArchitecture.reference);
    const home = join(registry.root, 'docker/registry/v2/repositories', repository);
    await rm(join(home, '_manifests/revisions/sha256', hexOf(instance('arm64'))), { recursive: true });
  });
  after(async () => {
    await registry[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });

  it('is pulled with these, and says which are lacking, the second time too', async () => {
    for (const state of ['pulled', 'kept']) {
      const { report } = await tryPull(join(work, 'layout'), [line]);
      const [image] = report.images;
      assert.deepEqual(
        [report.outcome, image?.state, image?.absent],
        ['complete', state, [{ digest: instance('arm64'), platform: 'linux/arm64' }]],
      );
    }
    assert.equal(line, localReference(registry.host, otherArchitecture.reference));
  });

  it('is verified and built for the platform that is there, and for the other it is refused with what to do', async () => {
    const from = join(work, 'layout');
    await appendFile(join(from, 'ocp-images.txt'), `${line}\n`);
    const absent = [{ digest: instance('arm64'), platform: 'linux/arm64' }];
    const notice = (fate: string): string =>
      `the list of 1 image names 1 manifest that ${fate}: linux/arm64 (1); first: ${instance('arm64')} of ${line}`;
    const folder = await verifyAt(from);
    assert.deepEqual([folder.faults, folder.notices], [[], [notice('this layout lacks')]]);
    const bundle = join(work, 'bundle');
    await runBuild({ from, to: bundle, payloads: ['oci', 'registry'] });
    assert.deepEqual((await readManifest(bundle)).bundle.stages.installed?.images[0]?.absent, absent);
    const built = await verifyAt(bundle);
    assert.deepEqual([built.faults, built.notices[0]], [[], notice('the input of the build lacked')]);
    assert.deepEqual(await errorOf(runBuild({ from, to: join(work, 'other'), architecture: 'arm64' })), {
      code: 'ERR_ARCHITECTURE',
      message: `${from}: the list ${otherArchitecture.digest} names ${instance('arm64')} for linux/arm64, which is missing: the source of the list may not have it`,
      remedy: 'Pull it from a source that has the image for linux/arm64, or remove it from the list',
    });
  });

  it('is damaged, for verify, if what pull brought is lost', async () => {
    const from = join(work, 'lost');
    await cp(join(work, 'layout'), from, { recursive: true });
    await writeFile(join(from, 'absent-instances.json'), `{"lists":{"${otherArchitecture.digest}":[]}}`);
    const { faults } = await verifyAt(from, 'quick');
    assert.deepEqual(
      faults.map(({ path, code }) => [path, code]),
      [[`blobs/sha256/${hexOf(instance('arm64'))}`, 'ERR_LAYOUT_BLOB']],
    );
  });

  it('is pulled into an archive, too', async () => {
    const { report } = await tryPull(join(work, 'archives'), [line], { format: 'archives' });
    assert.equal(report.outcome, 'complete');
    const { faults } = await verifyAt(join(work, 'archives'));
    assert.deepEqual(faults, []);
  });

  it('fails if nothing of it is there', async () => {
    const { repository } = parseReference(otherArchitecture.reference);
    const home = join(registry.root, 'docker/registry/v2/repositories', repository);
    await rm(join(home, '_manifests/revisions/sha256', hexOf(instance('amd64'))), { recursive: true });
    const { report } = await tryPull(join(work, 'nothing'), [line]);
    assert.deepEqual([report.outcome, report.images[0]?.error?.code], ['failed', 'ERR_PULL_MISSING']);
  });
});
