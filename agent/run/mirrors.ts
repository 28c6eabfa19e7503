import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crioPid } from '../engine/crio-process.ts';
import { mirrorDialect } from '../engine/registries-dialect.ts';
import { DROP_IN_PATH, type MirrorRequest, renderDropIn } from '../engine/registries-drop-in.ts';
import { CRIO_TOLD, reloadCrio } from '../engine/registries-reload.ts';
import { rewriteRegistries } from '../engine/registries-rewrite.ts';
import { REGISTRIES_CONF, readRegistries } from '../engine/registries-view.ts';
import { engineReleaseSteps, staleMirrorSteps } from '../engine/release.ts';
import { writeAtomic } from '../host/atomic.ts';
import { hostPath } from '../host/host.ts';
import { addNotices, type RunContext } from '../load/context.ts';
import { digestOf } from '../model/digest.ts';
import type { ErrorRecord } from '../model/errors.ts';
import { registryHealth, stopRegistry } from '../registry/serve/service.ts';
import { readRegistryRecord } from '../registry/serve/service-record.ts';
import { OWNED_MARK } from '../system-files/file.ts';
import { putSystemFiles, type SystemFile } from '../system-files/put.ts';
import { registryAddress } from './registry-address.ts';
import { signaturePlaces } from './signature-places.ts';
import { type Answering, withholdMirrors } from './withhold.ts';

/** Mirrors as files of the system, which say nothing to anybody until they are written. */
export interface PlannedMirrors {
  readonly files: readonly SystemFile[];
  readonly notices: readonly string[];
  /** Why some sources get no mirror, or all. */
  readonly withheld?: ErrorRecord | undefined;
}

/**
 * The files that put the registry of this node in front of sources, in registries.conf or beside it; of sources whose images engines would then
 * refuse, none. Changes nothing.
 * @throws PrestageError ERR_REGISTRIES
 */
export async function planMirrors(
  wanted: MirrorRequest['sources'],
  answering: Answering,
  { host, settings }: RunContext,
): Promise<PlannedMirrors> {
  const [view, dialect, places] = await Promise.all([
    readRegistries(host),
    mirrorDialect(host),
    signaturePlaces(host, answering, registryAddress({ settings })),
  ]);
  const { sources, withheld } = await withholdMirrors(wanted, answering, { host, looks: places });
  if (sources.length === 0) return { files: [], notices: places.notices, withheld };
  const request: MirrorRequest = { sources, insecure: settings.serve === 'node', block: settings.blockSource };
  const { text, notices } = settings.rewrite
    ? rewriteRegistries(await readFile(hostPath(host, REGISTRIES_CONF), 'utf8').catch(() => ''), view, { request, dialect })
    : renderDropIn(view, request, dialect);
  const conf: SystemFile = settings.rewrite
    ? { path: REGISTRIES_CONF, content: text, how: 'edit' }
    : { path: DROP_IN_PATH, content: text, how: 'add' };
  const authority = await ownAuthority({ host, settings });
  return { files: [conf, ...places.files, ...authority.files], notices: [...notices, ...places.notices, ...authority.notices], withheld };
}

/**
 * Tells the engines of a registry that answers, and has a running CRI-O read it again.
 * @throws PrestageError ERR_SYSTEM_FILE
 */
export async function setMirrors({ files, notices, withheld }: PlannedMirrors, context: RunContext): Promise<void> {
  const { host, step, store } = context;
  addNotices(context, notices);
  if (withheld !== undefined) {
    host.log('warning', withheld.message);
    store.update({ withheld });
  }
  if (files.length === 0) return await removeMirrors(context);
  const changed = await putSystemFiles(host, files, step);
  // Of a run that wrote them in another form, or for another address.
  const stale = await staleMirrorSteps(
    host,
    files.map(({ path }) => path),
  );
  for (const { name, run } of stale) await step(name, run);
  await tellCrio(files, { isNews: changed.length + stale.length > 0, context });
}

/**
 * Takes the mirrors away that lead to the registry of this node, so that engines ask the sources again. Nothing to do if there are none.
 * It comes before the registry is stopped: in between, engines would ask nobody, for good if the sources are blocked.
 */
export async function removeMirrors({ host, step }: Pick<RunContext, 'host' | 'step'>): Promise<void> {
  for (const { name, run } of await engineReleaseSteps(host, 'mirrors')) await step(name, run);
}

/** Ends the registry of this node, and before it what leads to it. What a boot before has left leads nowhere until this boot's registry answers. */
export async function endRegistry(context: Pick<RunContext, 'host' | 'step'>): Promise<void> {
  const { host, step } = context;
  if ((await readRegistryRecord(host)) !== undefined) await removeMirrors(context);
  await stopRegistry(host, step);
}

/** Takes the mirrors away if no registry of this node answers: for a run that has failed, whatever it had come to. */
export async function removeDeadMirrors(context: Pick<RunContext, 'host' | 'step'>): Promise<void> {
  const { host } = context;
  if ((await engineReleaseSteps(host, 'mirrors')).length === 0) return;
  const record = await readRegistryRecord(host);
  if (record !== undefined && (await registryHealth(host, record.address)).healthy) return;
  host.log('warning', 'no registry of this node answers: its mirrors are taken away, and engines ask the sources');
  await removeMirrors(context);
}

async function tellCrio(
  files: readonly SystemFile[],
  { isNews, context: { host, step } }: { readonly isNews: boolean; readonly context: RunContext },
): Promise<void> {
  const [told, wanted] = [hostPath(host, CRIO_TOLD), digestOf(JSON.stringify(files))];
  if (!isNews && (await readFile(told, 'utf8').catch(() => undefined)) === wanted) return;
  await step('reload-crio', async () => {
    // To look for it is cheaper than to ask systemd, and in most runs it does not run yet.
    if (crioPid(host) !== undefined) await reloadCrio(host);
    await writeAtomic(told, wanted);
  });
}

/** A node that serves the cluster pulls from itself by TLS, too. Source: containers-certs.d(5). */
async function ownAuthority({ host, settings }: Pick<RunContext, 'host' | 'settings'>): Promise<PlannedMirrors> {
  if (settings.serve === 'node') return { files: [], notices: [] };
  const path = join(dirname(settings.tlsCertificate), 'ca.crt');
  const authority = await readFile(hostPath(host, path), 'utf8').catch(() => undefined);
  if (authority === undefined) {
    const notice = `${path} is not there: this node does not trust its own registry, unless it knows who signed its certificate`;
    return { files: [], notices: [notice] };
  }
  const trusted = `/etc/containers/certs.d/${registryAddress({ settings })}/ca.crt`;
  return { files: [{ path: trusted, content: `${OWNED_MARK}\n${authority}`, how: 'add' }], notices: [] };
}
