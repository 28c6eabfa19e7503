import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, lstat, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { STORE_LAYERS } from '../../../../agent/factory/compose/layer-limits.ts';
import { readSourceImage } from '../../../../agent/factory/compose/source-image.ts';
import { proveStore } from '../../../../agent/factory/compose/store-proof.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, type Bundle, type BundlePayload, PARTIAL_FILE, parseBundle } from '../../../../agent/model/bundle.ts';
import { hexOf } from '../../../../agent/model/digest.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { squashfsKind } from '../../../../agent/mount/mount-refusal.ts';
import { isToken } from '../../../../agent/storage/lock-token.ts';
import { inspectStorage } from '../../../../agent/storage/records.ts';
import { verify } from '../../../../agent/verify/verify.ts';
import { mountPointsBelow, waitFor } from '../../../support/agent.ts';
import { hashesBelow, listOf, runBuild, storesUnavailable, writePulled } from '../../../support/build.ts';
import { CACHE, TOP } from '../../../support/cache.ts';
import { runnableRoot } from '../../../support/image-files.ts';
import { makeLayer } from '../../../support/image-layer.ts';
import { type ImageSet, MAPPED_TAG, smallImageSet } from '../../../support/image-set.ts';
import { makeImage, writeOciLayout } from '../../../support/images.ts';
import { piecesOf } from '../../../support/pieces.ts';
import { startRegistry } from '../../../support/registry.ts';
import { inContainer, privateStorage } from '../../../support/storage.ts';

const EPOCH = 1_710_000_000;
const unavailable = storesUnavailable();

describe('store images of prestage-agent build', () => {
  let set: ImageSet;
  let work: string;
  let pulled: string;
  let built: string;
  let messages: readonly string[];
  const options = { payloads: ['store'], sourceDateEpoch: EPOCH } as const;
  before(async () => {
    set = await smallImageSet();
    work = await mkdtemp(join(CACHE, '.build-store-test-'));
    pulled = await writePulled(set, join(work, 'pulled'));
    built = join(work, 'built');
    if (unavailable === undefined) ({ messages } = await runBuild({ ...options, from: pulled, to: built, jobs: 3 }));
  });
  after(async () => {
    for (const point of (await mountPointsBelow(work)).toReversed()) await execOnLinux('umount', [point]);
    await rm(work, { recursive: true, force: true });
  });
  const onStores = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable === undefined) await act();
      else t.skip(unavailable);
    });
  };

  const bundleAt = async (to: string): Promise<Bundle> => parseBundle(await readFile(join(to, BUNDLE_FILE), 'utf8'), to);
  const storeOf = async (stage: 'discovery' | 'installed'): Promise<Extract<BundlePayload, { kind: 'store' }>> => {
    const store = (await bundleAt(built)).payloads.find((payload) => payload.kind === 'store' && payload.stage === stage);
    return store?.kind === 'store' ? store : assert.fail(`no store of ${stage}`);
  };
  /** Mounts a store for as long as the action takes. */
  const withStore = async (image: string, act: (path: string) => Promise<void>): Promise<void> => {
    const point = await mkdtemp(join(work, 'mount-'));
    await output(execOnLinux, 'mount', ['-t', 'squashfs', '-o', 'ro', image, point]);
    try {
      await act(point);
    } finally {
      await output(execOnLinux, 'umount', [point]);
    }
  };

  onStores('are a function of their images: other jobs, another folder and archives as input give the same bytes', async () => {
    const expected = await hashesBelow(built);
    const elsewhere = join(work, 'elsewhere');
    await runBuild({ ...options, from: pulled, to: elsewhere, jobs: 1, work: join(work, 'scratch') });
    assert.deepEqual(await hashesBelow(elsewhere), expected);
    const fromArchives = join(work, 'from-archives');
    await runBuild({ ...options, from: set.archives, to: fromArchives, jobs: 2 });
    assert.deepEqual(await hashesBelow(fromArchives), expected);
    assert.equal(Object.keys(expected).filter((path) => /\.(?:squashfs|verity)$/.test(path)).length, 4);
    assert.equal((await runBuild({ ...options, from: pulled, to: built })).report.outcome, 'unchanged');
  });

  onStores('are the same whether a stage is built alone or beside another, from images that are unpacked once for both', async () => {
    const unpacked = messages.filter((message) => /images unpacked, /.test(message));
    const both = new Set([...set.discovery, ...set.installed].map(({ reference }) => reference));
    assert.deepEqual(
      unpacked.map((message) => message.replace(/, [^,]*$/, '')),
      [`store-discovery and store-installed: ${both.size} images unpacked`],
    );
    assert.ok(set.discovery.length + set.installed.length > both.size, 'the stages share images');
    const alone = join(work, 'alone');
    await runBuild({ ...options, from: pulled, to: alone, lists: { discovery: join(pulled, 'ai-images.txt') } });
    const [one, beside] = await Promise.all([hashesBelow(alone), hashesBelow(built)]);
    for (const file of ['store/discovery.squashfs', 'store/discovery.verity']) assert.equal(one[file], beside[file], file);
  });

  onStores('are one file if both stages have equal images, which verify finds sound, packed as asked for and told on the way', async () => {
    const to = join(work, 'equal');
    const list = join(pulled, 'ai-images.txt');
    const lists = { discovery: list, installed: list };
    const { report, messages: said } = await runBuild({ ...options, from: pulled, to, lists, compression: 'gzip', compressionLevel: 1 });
    assert.deepEqual(report.compression, { algorithm: 'gzip', level: 1, reason: 'asked for' });
    const [discovery, installed, ...others] = (await bundleAt(to)).payloads;
    assert.ok(discovery?.kind === 'store' && installed?.kind === 'store');
    assert.deepEqual([{ ...discovery, stage: 'installed' }, others], [installed, []]);
    assert.deepEqual([discovery.image, discovery.compression], ['store/all.squashfs', { algorithm: 'gzip', level: 1 }]);
    assert.deepEqual((await readdir(join(to, 'store'))).toSorted(), ['all.mirror', 'all.squashfs', 'all.verity']);
    assert.equal(await squashfsKind(join(to, discovery.image)), 'squashfs 4.0 with gzip');
    assert.ok(said.includes('store: 100 % packed'), said.join('\n'));
    const host = linuxHost({ root: '/', env: {}, log: () => undefined });
    const verified = await verify(host, { path: to, mode: 'full', label: 'data', parallel: 2, signal: new AbortController().signal });
    assert.deepEqual(verified.faults, []);
    assert.deepEqual(verified.stores, [
      { stage: 'discovery', image: 'store/all.squashfs', compression: 'gzip level 1' },
      { stage: 'installed', image: 'store/all.squashfs', compression: 'gzip level 1' },
    ]);
  });

  onStores('are recorded with the hashes of their pieces, also where a later build keeps them', async () => {
    const store = await storeOf('installed');
    assert.deepEqual(store.pieces, piecesOf(await readFile(join(built, store.image)), 4 * 2 ** 20));
    const to = join(work, 'kept');
    // With times to the nanosecond, which a build compares.
    await output(execOnLinux, 'cp', ['-a', built, to]);
    const { report } = await runBuild({ payloads: ['store', 'oci'], sourceDateEpoch: EPOCH, from: pulled, to });
    assert.deepEqual(
      report.parts.filter(({ id }) => id.startsWith('store-')).map(({ state }) => state),
      ['keep', 'keep'],
    );
    const kept = (await bundleAt(to)).payloads.filter((payload) => payload.kind === 'store');
    assert.deepEqual(kept, (await bundleAt(built)).payloads);
  });

  onStores('hold every image by every name, without a damaged record and with all lock files', async () => {
    const store = await storeOf('installed');
    await withStore(join(built, store.image), async (path) => {
      const { images } = await inspectStorage({ graphroot: path, runroot: join(work, 'run') });
      assert.deepEqual(
        images.flatMap((image) => image.damage),
        [],
      );
      const names = set.installed.map((image) => image.reference);
      assert.deepEqual(
        images.flatMap((image) => image.names).toSorted(),
        [...names, `${set.images.zstd.reference.split('@')[0]}:${MAPPED_TAG}`].toSorted(),
      );
      for (const { digest } of set.installed) assert.ok(images.some((image) => image.digests.includes(digest)));
      const locks = ['storage.lock', 'overlay-images/images.lock', 'overlay-layers/layers.lock', 'overlay-containers/containers.lock'];
      const tokens = await Promise.all(locks.map(async (lock) => await readFile(join(path, lock))));
      assert.deepEqual(tokens.map(isToken), [true, true, true, true]);
    });
  });

  onStores('keep what images bring: times, owners, modes, links, whiteouts and extended attributes', async () => {
    const store = await storeOf('installed');
    await using storage = await privateStorage();
    await withStore(join(built, store.image), async (path) => {
      const roots = ['--root', storage.graphroot, '--runroot', storage.runroot, '--storage-driver', 'overlay'];
      const store = ['--storage-opt', `additionalimagestore=${path}`];
      const run = async (reference: string, script: string) =>
        await output(execOnLinux, ...inContainer([...roots, ...store], reference, ['sh', '-c', script]));
      const stats = await run(
        set.images.links.reference,
        'stat -c "%n %a %u %h %Y" /opt/original /opt/hard /opt/capable /opt/setuid; stat -c "%N" /opt/soft',
      );
      assert.deepEqual(stats.trim().split('\n'), [
        '/opt/original 644 0 2 0',
        '/opt/hard 644 0 2 0',
        '/opt/capable 755 0 1 0',
        '/opt/setuid 4755 1000 1 0',
        "'/opt/soft' -> 'original'",
      ]);
      const white = await run(set.images.whiteouts.reference, 'ls /etc/conf.d; ls -d /etc/removed-later /srv/gone 2>/dev/null; echo end');
      assert.equal(white, '20-own.conf\nend\n'.trimEnd());
    });
    await withStore(join(built, store.image), async (path) => {
      // What no image dates is dated by the environment.
      assert.equal((await lstat(join(path, 'overlay-layers/layers.json'))).mtimeMs, EPOCH * 1000);
      const attributes = await output(execOnLinux, 'getfattr', [
        '-R',
        '-d',
        '-m',
        '^(user|security\\.capability|trusted)',
        '--absolute-names',
        path,
      ]);
      for (const name of ['user.prestage', 'security.capability', 'trusted.overlay.opaque']) assert.ok(attributes.includes(name), name);
    });
  });

  onStores(
    "run images of as many layers as fit into the options of an overlay at the node's own path, and a build warns of more",
    async () => {
      const layout = join(work, 'deep');
      const blobs = join(work, 'deep-store');
      const layers = [await makeLayer(blobs, await runnableRoot(['sh']))];
      while (layers.length < STORE_LAYERS + 10)
        layers.push(await makeLayer(blobs, [{ kind: 'file', path: `f${layers.length}`, content: 'x' }]));
      const image = async (name: string, count: number) =>
        await makeImage(blobs, { name, tag: '1', format: 'oci', layers: layers.slice(0, count) });
      const images = [await image('quay.io/e/fits', STORE_LAYERS), await image('quay.io/e/deep', layers.length)];
      await writeOciLayout(blobs, images, layout);
      await writeFile(join(layout, 'ocp-images.txt'), listOf(images));
      const { messages: said } = await runBuild({ ...options, from: layout, to: join(work, 'deep-bundle') });
      const warnings = said.filter((message) => message.startsWith('warning: ') && message.includes('layers'));
      assert.equal(warnings.length, 2, warnings.join('\n'));
      assert.match(
        warnings[0] ?? '',
        /^warning: quay\.io\/e\/deep:1 \(86 layers\): engines before OpenShift 4\.13 run at most 76 layers from/,
      );
      // The podman of this machine is such an engine.
      assert.match(
        warnings[1] ?? '',
        /^warning: store-installed: quay\.io\/e\/deep:1 with 86 layers does not mount: .*lowerdir=….*no such file/,
      );
      assert.ok(said.includes('store-installed: a command ran in quay.io/e/fits:1'), said.join('\n'));
    },
  );

  onStores('are refused where they do not show what was put into them, with every fault', async () => {
    const store = await storeOf('discovery');
    const host = linuxHost({ root: '/', env: {}, log: () => undefined });
    const missing = set.images.oci;
    const images = [set.images.agent, missing].map(async ({ reference, digest }) => ({
      reference,
      names: [reference],
      image: await readSourceImage(pulled, digest, 'amd64'),
    }));
    const options = { architecture: 'amd64', work: join(work, 'proof'), signal: new AbortController().signal };
    const id = hexOf(missing.instances[0]?.config.digest ?? missing.digest);
    const error: unknown = await proveStore(host, { ...options, image: join(built, store.image), images: await Promise.all(images) }).catch(
      (thrown: unknown) => thrown,
    );
    const { code, message } = errorRecord(error);
    const [heading, record, listing, resolving] = message.split('\n');
    assert.deepEqual(
      [code, heading, record, listing],
      [
        'ERR_BUILD_PROOF',
        `${join(built, store.image)} does not contain exactly what was put into it: 3 faults`,
        `${missing.reference}: the store does not have the image ${id}`,
        `${missing.reference}: podman images does not list it`,
      ],
    );
    assert.match(resolving ?? '', /^podman image inspect failed with exit code 125: .*(?:no such image|image not known)/);
    assert.deepEqual(await mountPointsBelow(join(work, 'proof')), []);
  });

  onStores('are proven by programs of which none goes on', async () => {
    const store = await storeOf('discovery');
    const late = join(work, 'late');
    // As the monitor of a container does, which starts another podman when the container has ended.
    const podman = join(work, 'podman-and-more');
    await writeFile(podman, `#!/bin/sh\npodman "$@"; code=$?\nsetsid sh -c 'sleep 1; touch ${late}' >/dev/null 2>&1 &\nexit $code\n`, {
      mode: 0o755,
    });
    const host = linuxHost({ root: '/', env: {}, log: () => undefined });
    const exec: typeof host.exec = async (file, args, options) =>
      await host.exec(
        file,
        args.map((arg) => (arg === 'podman' ? podman : arg)),
        options,
      );
    const options = { architecture: 'amd64', work: join(work, 'proof'), signal: new AbortController().signal };
    const { reference, digest } = set.images.agent;
    const images = [{ reference, names: [reference], image: await readSourceImage(pulled, digest, 'amd64') }];
    await proveStore({ ...host, exec }, { ...options, image: join(built, store.image), images });
    await sleep(1500);
    assert.equal(existsSync(late), false);
  });

  onStores('open through their hash tree with the recorded root hash, and not when a byte is changed', async () => {
    const store = await storeOf('discovery');
    const verify = async (image: string) =>
      await execOnLinux('veritysetup', ['verify', image, join(built, store.verity.hashTree), store.verity.rootHash]);
    assert.equal((await verify(join(built, store.image))).exitCode, 0);
    const changed = join(work, 'changed.squashfs');
    await cp(join(built, store.image), changed);
    const bytes = await readFile(changed);
    bytes.writeUInt8(bytes.readUInt8(5000) ^ 1, 5000);
    await writeFile(changed, bytes);
    assert.notEqual((await verify(changed)).exitCode, 0);
  });

  onStores('let podman pull offline by tag and by digest, from a mirror that has no layer', async () => {
    const store = await storeOf('installed');
    await using registry = await startRegistry({ near: work });
    await mkdir(registry.root, { recursive: true });
    await output(execOnLinux, 'cp', ['-al', `${join(built, store.mirror)}/.`, registry.root]);
    await using storage = await privateStorage();
    await withStore(join(built, store.image), async (path) => {
      for (const { names } of (await bundleAt(built)).stages.installed?.images ?? []) {
        for (const name of names) {
          const pull = await storage.podman(
            '--storage-opt',
            `additionalimagestore=${path}`,
            'pull',
            '--quiet',
            '--tls-verify=false',
            `${registry.host}/${name}`,
          );
          assert.deepEqual([pull.exitCode, pull.stderr], [0, '']);
        }
      }
    });
    const layers = new Set(
      set.installed.flatMap((image) => image.instances.flatMap((one) => one.layers.map((layer) => hexOf(layer.digest)))),
    );
    const asked = [...registry.log().matchAll(/blobs\/sha256:([0-9a-f]{64})/g)].map((match) => match[1] ?? '');
    assert.deepEqual(
      asked.filter((hex) => layers.has(hex)),
      [],
    );
  });

  onStores('name the image that can serve the mirror: the one that is asked for, else the one that carries distribution', async () => {
    const layout = join(work, 'with-registry');
    const store = join(work, 'registry-store');
    const root = await runnableRoot(['sh']);
    const base = await makeLayer(store, root);
    const own = await makeLayer(store, [{ kind: 'file', path: 'usr/bin/distribution', content: '#!/bin/sh\n', mode: 0o755 }]);
    const plain = await makeImage(store, { name: 'quay.io/e/plain', tag: '1', format: 'oci', layers: [base] });
    const serving = await makeImage(store, { name: 'quay.io/e/registry', tag: '1', format: 'docker', layers: [base, own] });
    await writeOciLayout(store, [plain, serving], layout);
    const build = async (to: string, listed: readonly (typeof plain)[], registryImage?: string) => {
      await writeFile(join(layout, 'ocp-images.txt'), listOf(listed));
      const { messages } = await runBuild({
        ...options,
        from: layout,
        to: join(work, to),
        ...(registryImage !== undefined && { registryImage }),
      });
      const [payload] = (await bundleAt(join(work, to))).payloads;
      const hints = messages.filter((message) => message.includes('--registry-image'));
      return { image: payload?.kind === 'store' ? payload.registryImage : undefined, hints: hints.length };
    };
    assert.deepEqual(await build('found', [plain, serving]), { image: 'quay.io/e/registry:1', hints: 0 });
    assert.deepEqual(await build('none', [plain]), { image: undefined, hints: 1 });
    assert.deepEqual(await build('asked', [plain], 'quay.io/e/registry:1'), { image: 'quay.io/e/registry:1', hints: 0 });
    const { stages, payloads } = await bundleAt(join(work, 'asked'));
    assert.deepEqual(
      stages.installed?.images.map((image) => image.reference),
      ['quay.io/e/plain:1'],
    );
    const [payload] = payloads;
    await withStore(join(work, 'asked', payload?.kind === 'store' ? payload.image : ''), async (path) => {
      const { images } = await inspectStorage({ graphroot: path, runroot: join(work, 'run') });
      assert.deepEqual(images.flatMap((image) => image.names).toSorted(), ['quay.io/e/plain:1', 'quay.io/e/registry:1']);
    });
  });

  onStores('are finished by the next build when one is killed at any moment, and no mount stays', async () => {
    const expected = await hashesBelow(built);
    const to = join(work, 'killed');
    const both = new Set([...set.discovery, ...set.installed].map(({ reference }) => reference)).size;
    for (const moment of [`1/${both} images unpacked`, 'packed as squashfs', 'hash tree made', 'store-installed: started']) {
      const child = startBuild(pulled, to);
      const exited = once(child.process, 'exit');
      await waitFor(moment, async () => (child.said().includes(moment) ? true : child.process.exitCode === null ? undefined : false));
      child.process.kill('SIGKILL');
      await exited;
      const names = await readdir(to);
      assert.deepEqual([names.includes(PARTIAL_FILE), names.includes(BUNDLE_FILE)], [true, false], moment);
    }
    await runBuild({ ...options, from: pulled, to });
    assert.deepEqual(await hashesBelow(to), expected);
    assert.deepEqual(
      (await mountPointsBelow(work)).filter((point) => point.startsWith(to)),
      [],
    );
    assert.deepEqual(await readdir(join(to, '.build')), ['lock', 'lock.holder', 'record.json', 'writers.lock']);
  });

  onStores('are not begun where there is no room for the work', async () => {
    const small = join(work, 'small');
    await mkdir(small);
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', small]);
    const to = join(work, 'no-room');
    try {
      await assert.rejects(runBuild({ ...options, from: pulled, to, work: small }), {
        code: 'ERR_SPACE_BUILD',
        remedy: 'Free space, build fewer payloads at a time, or give another work directory with --work DIR',
      });
    } finally {
      await output(execOnLinux, 'umount', [small]);
    }
    assert.deepEqual(await readdir(to), ['.build']);
  });

  /** A build as a process of its own, which can be killed. */
  function startBuild(from: string, to: string): { readonly process: ChildProcess; readonly said: () => string } {
    const args = ['build', '--from', from, '--to', to, '--payload', 'store', '--jobs', '3'];
    const child = spawn(process.execPath, [join(TOP, 'agent/main.ts'), ...args], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(EPOCH) },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    return { process: child, said: () => said };
  }
});
