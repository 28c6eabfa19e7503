import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readStageBundle } from '../../agent/bundle/read-payload.ts';
import { errorRecord } from '../../agent/model/errors.ts';
import { type AgentResult, makeSandbox, type Sandbox } from '../support/agent.ts';
import { makeLayer } from '../support/image-layer.ts';
import { makeImage, writeOciLayout } from '../support/images.ts';
import { seal } from '../support/sealed-bundle.ts';

/** What programs could take for an option, a path, a word of a shell, a line of a unit, a field of a mount or another kind of image. */
const HOSTILE: readonly string[] = [
  '--privileged',
  '-v/:/host',
  '../../../etc/passwd',
  '/etc/passwd',
  'quay.io/example/x:v1\n[Service]\nExecStartPre=/bin/touch /tmp/owned',
  'quay.io/example/$(touch /tmp/owned):v1',
  'quay.io/example/a b:v1',
  'quay.io/example/x:v1,destination=/etc',
  'quay.io/example/"x":v1',
  'quay.io/../x:v1',
  'quay.io/example/x:v1\u0000',
  'quay.io/example/\u001b[2Jx:v1',
  'dir:/etc',
  'docker://quay.io/example/x:v1',
  'containers-storage:[overlay@/etc]x',
];
/** The names among them that no path can be, wherever it stands. */
const HOSTILE_PATHS = HOSTILE.filter(
  (text) => ['.', '/'].includes(text.charAt(0)) || ['\n', '\u0000', '\u001b'].some((one) => text.includes(one)),
);

type Change = (manifest: Manifest, value: string) => void;

/** Names of a manifest that come to engines, into units and into configuration. */
const names: Readonly<Record<string, Change>> = {
  'the reference of an image': ({ stages }, value) => {
    for (const image of stages.installed.images) image.reference = value;
  },
  'a name of an image': ({ stages }, value) => {
    for (const image of stages.installed.images) image.names.push(value);
  },
  'the image of the registry of a store': inPayload('store', 'registryImage'),
  'the image of a registry': inPayload('registry', 'registryImage'),
};
const paths: Readonly<Record<string, Change>> = {
  'a file': ({ files }, value) => void files.push({ ...files[0], path: value }),
  'a layout': inPayload('oci', 'path'),
  'a store image': inPayload('store', 'image'),
  'the mirror of a store': inPayload('store', 'mirror'),
  'a registry tree': inPayload('registry', 'path'),
};

interface Manifest {
  readonly stages: { readonly installed: { readonly images: { reference: string; readonly names: string[] }[] } };
  readonly payloads: { kind: string; path?: string; image?: string; mirror?: string; registryImage?: string }[];
  readonly files: { path?: string }[];
}

function inPayload(kind: string, key: 'path' | 'image' | 'mirror' | 'registryImage'): Change {
  return ({ payloads }, value) => {
    for (const payload of payloads) if (payload.kind === kind) payload[key] = value;
  };
}

describe('a name in a manifest that nobody pinned', () => {
  let sandbox: Sandbox;
  let directory: string;
  let manifest: string;
  before(async () => {
    sandbox = await makeSandbox();
    directory = join(sandbox.work, 'bundle');
    const store = join(sandbox.work, 'blobs');
    await mkdir(store);
    const layer = await makeLayer(store, [{ kind: 'file', path: 'etc/name', content: 'name' }]);
    const image = await makeImage(store, { name: 'quay.io/example/tool', tag: 'v1', format: 'oci', layers: [layer] });
    for (const folder of ['oci', 'store', 'mirror', 'registry']) await mkdir(join(directory, folder), { recursive: true });
    await writeOciLayout(store, [image], join(directory, 'oci'));
    for (const file of ['store/image', 'store/tree', 'mirror/file', 'registry/file']) await writeFile(join(directory, file), file);
    const verity = { hashTree: 'store/tree', rootHash: 'a'.repeat(64) };
    const registryImage = image.reference;
    await seal({
      directory,
      stage: 'installed',
      images: [image],
      payloads: [
        { kind: 'oci', path: 'oci' },
        { kind: 'store', stage: 'installed', image: 'store/image', verity, mirror: 'mirror', registryImage },
        { kind: 'registry', path: 'registry', registryImage },
      ],
    });
    manifest = await readFile(join(directory, 'prestage.json'), 'utf8');
    for (const program of ['podman', 'skopeo', 'mount', 'systemctl'])
      await sandbox.wrap(program, 'echo "$0 $*" >> "$LOG"; exec "$REAL" "$@"');
  });
  after(async () => await sandbox?.[Symbol.asyncDispose]());

  const write = async (change: Change, value: string): Promise<void> => {
    const document: Manifest = JSON.parse(manifest);
    change(document, value);
    await writeFile(join(directory, 'prestage.json'), JSON.stringify(document));
  };
  const readError = async (): Promise<string | undefined> =>
    await readStageBundle({ directory, stage: 'installed', pinnedSha256: undefined }).then(
      () => undefined,
      (error: unknown) => errorRecord(error).code,
    );

  it('that is one is read', async () => {
    await write(() => undefined, '');
    assert.equal(await readError(), undefined);
  });

  for (const [what, change] of Object.entries(names)) {
    it(`is refused where it is hostile: ${what}`, async () => {
      for (const value of HOSTILE) {
        await write(change, value);
        assert.equal(await readError(), 'ERR_REFERENCE', value);
      }
    });
  }

  for (const [what, change] of Object.entries(paths)) {
    it(`is refused where it leads out, or is more than a path: ${what}`, async () => {
      for (const value of HOSTILE_PATHS) {
        await write(change, value);
        assert.equal(await readError(), 'ERR_BUNDLE', value);
      }
    });
  }

  for (const delivery of ['extract', 'mount', 'registry']) {
    it(`comes to no program and into no file: ${delivery}`, async () => {
      for (const [what, change] of Object.entries(names)) {
        const value = 'quay.io/example/x:v1\nExecStartPre=/bin/touch /tmp/owned --privileged';
        await write(change, value);
        const ended: AgentResult = await sandbox.agent(['run', '--stage', 'installed', '--bundle', directory, '--delivery', delivery]);
        assert.equal(ended.exitCode, 6, `${what}: ${ended.stdout}${ended.stderr}`);
        assert.match(ended.stderr + ended.stdout, /ERR_REFERENCE/);
      }
      assert.deepEqual(
        (await sandbox.log()).filter((line) => line.includes('owned')),
        [],
      );
    });
  }
});
