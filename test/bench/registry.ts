import { join } from 'node:path';
import { parseReference } from '../../agent/model/reference.ts';
import { registryRepository } from '../../agent/model/registry-path.ts';
import { type NodeSandbox, openSandbox } from '../support/sandbox.ts';
import { type BenchBundle, bundleOf } from './bench-bundles.ts';
import type { BenchSet } from './bench-images.ts';
import { bestOf, fastest, measureInside } from './inside.ts';
import type { Measurement } from './measure.ts';
import type { PartFindings } from './report.ts';
import { EXECUTABLE } from './workplace.ts';

/** Copies of all from each, turn by turn. */
const COPIES = 2;

const OURS = '127.0.0.1:305';
const PUSHED = '127.0.0.1:5056';

/** Copies images one after the other into one layout, so that shared blobs come once, as an engine takes them. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: the shell fills it in
const COPY_ALL = 'to=$1; shift; for from; do skopeo copy --quiet --src-tls-verify=false "docker://$from" "oci:$to:${from##*:}"; done';

/** The registry's own configuration: JSON is YAML. Its log of requests would fill the pipe that nobody reads. Source: distribution, docs/configuration.md. */
const PUSHED_CONFIG = JSON.stringify({
  version: '0.1',
  log: { level: 'error', accesslog: { disabled: true } },
  storage: { filesystem: { rootdirectory: '/var/tmp/pushed' } },
  http: { addr: PUSHED },
});

/**
 * Copies the whole set from the registry of a node, which serves the tree that the factory made, and from a distribution that was filled by
 * pushes. And how long a node takes until it serves.
 */
export async function benchRegistry(set: BenchSet): Promise<PartFindings> {
  const bundle = await bundleOf(set);
  const started = await bestOf(async (node) => await serve(node, bundle));
  await using node = await openSandbox();
  await push(node, bundle);
  const ours: Measurement[] = [];
  const pushed: Measurement[] = [];
  for (let round = 0; round < COPIES; round++) {
    ours.push(await copyAll(node, bundle, OURS));
    pushed.push(await copyAll(node, bundle, PUSHED));
  }
  return {
    rows: [
      ['registry: run until it serves', started],
      ['copy of all from the registry', fastest(ours)],
      ['the same from a pushed one', fastest(pushed)],
    ],
    bars: [
      { what: 'registry: from the start of the run until it serves', got: started.wallSeconds, wanted: 2, kind: 'most', unit: 's' },
      {
        what: 'registry: speed of a copy of all, of a registry filled by pushes',
        got: fastest(pushed).wallSeconds / fastest(ours).wallSeconds,
        wanted: 0.9,
        kind: 'least',
        unit: 'times',
      },
    ],
  };
}

async function serve(node: NodeSandbox, { directory }: BenchBundle): Promise<Measurement> {
  return await measureInside(node, [EXECUTABLE, 'run', '--stage', 'installed', '--bundle', directory, '--delivery', 'registry']);
}

async function push(node: NodeSandbox, { directory, images }: BenchBundle): Promise<void> {
  await node.output('sh', ['-c', `printf %s "$1" >/run/pushed.json`, 'sh', PUSHED_CONFIG]);
  node.start('docker-registry', ['serve', '/run/pushed.json']);
  const untilUp = 'until curl --silent --fail "http://$1/v2/" >/dev/null; do sleep 0.05; done';
  await node.output('sh', ['-c', untilUp, 'sh', PUSHED]);
  // Out of the registry of the node, so that both hold the very same blobs.
  await serve(node, { directory, images });
  const each =
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the shell fills it in
    'ours=$1 pushed=$2; shift 2; for r; do skopeo copy --quiet --preserve-digests --src-tls-verify=false --dest-tls-verify=false "docker://$ours/$r" "docker://$pushed/${r%@*}:${r##*:}"; done';
  await node.output('sh', ['-e', '-c', each, 'sh', OURS, PUSHED, ...images.map((image) => pathOf(image.reference))], {
    timeoutMs: 300_000,
  });
}

async function copyAll(node: NodeSandbox, { images }: BenchBundle, registry: string): Promise<Measurement> {
  await node.output('sh', ['-c', 'rm -rf /var/tmp/copied && mkdir /var/tmp/copied']);
  const from = images.map((image) => `${registry}/${pathOf(image.reference)}`);
  return await measureInside(node, ['sh', '-e', '-c', COPY_ALL, 'sh', join('/var/tmp/copied', registry.replace(':', '-')), ...from]);
}

/** As a registry of ours serves it: with the source's host in front. */
function pathOf(reference: string): string {
  const parsed = parseReference(reference);
  return `${registryRepository(parsed)}@${parsed.digest ?? ''}`;
}
