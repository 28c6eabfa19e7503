import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crioPid } from '../engine/crio-process.ts';
import { mirrorDialect } from '../engine/registries-dialect.ts';
import { DROP_IN_PATH, type MirrorRequest, renderDropIn } from '../engine/registries-drop-in.ts';
import { CRIO_TOLD, reloadCrio } from '../engine/registries-reload.ts';
import { rewriteRegistries } from '../engine/registries-rewrite.ts';
import { REGISTRIES_CONF, readRegistries } from '../engine/registries-view.ts';
import { engineUndoSteps, staleMirrorSteps } from '../engine/undo.ts';
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

/** Mirrors as files of the system. They have no effect until they are written. */
export interface PlannedMirrors {
  readonly files: readonly SystemFile[];
  readonly notices: readonly string[];
  /** Why some or all sources get no mirror. */
  readonly withheld?: ErrorRecord | undefined;
}

/**
 * Plans the files that make engines ask the registry of this node before the sources, in registries.conf or beside it. Leaves out sources whose
 * images engines would then refuse. Changes nothing.
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
 * Tells the engines about a registry that answers, and makes a running CRI-O reload its configuration.
 * @throws PrestageError ERR_SYSTEM_FILE
 */
export async function setMirrors({ files, notices, withheld }: PlannedMirrors, context: RunContext): Promise<void> {
  const { host, act, record } = context;
  addNotices(context, notices);
  if (withheld !== undefined) {
    host.log('warning', withheld.message);
    record.update({ withheld });
  }
  if (files.length === 0) return await removeMirrors(context);
  const changed = await putSystemFiles(host, files, act);
  // Files of a run that wrote them in another form, or for another address.
  const stale = await staleMirrorSteps(
    host,
    files.map(({ path }) => path),
  );
  for (const { name, run } of stale) await act(name, run);
  await tellCrio(files, { isNews: changed.length + stale.length > 0, context });
}

/**
 * Removes the mirrors that lead to the registry of this node, so that engines ask the sources again. Nothing to do if there are none.
 * Comes before the registry is stopped: if a run were killed in between, blocked sources would leave the engines with nowhere to pull from.
 */
export async function removeMirrors({ host, act }: Pick<RunContext, 'host' | 'act'>): Promise<void> {
  for (const { name, run } of await engineUndoSteps(host, 'mirrors')) await act(name, run);
}

/** Stops the registry of this node, and removes its mirrors first. Mirrors of an earlier boot can stay: no registry answers them yet in this boot. */
export async function endRegistry(context: Pick<RunContext, 'host' | 'act'>): Promise<void> {
  const { host, act } = context;
  if ((await readRegistryRecord(host)) !== undefined) await removeMirrors(context);
  await stopRegistry(host, act);
}

/** Removes the mirrors if no registry of this node answers: for a failed run, however far it got. */
export async function removeDeadMirrors(context: Pick<RunContext, 'host' | 'act'>): Promise<void> {
  const { host } = context;
  if ((await engineUndoSteps(host, 'mirrors')).length === 0) return;
  const record = await readRegistryRecord(host);
  if (record !== undefined && (await registryHealth(host, record.address)).healthy) return;
  host.log('warning', 'no registry of this node answers: its mirrors are removed, and engines ask the sources');
  await removeMirrors(context);
}

async function tellCrio(
  files: readonly SystemFile[],
  { isNews, context: { host, act } }: { readonly isNews: boolean; readonly context: RunContext },
): Promise<void> {
  const [told, wanted] = [hostPath(host, CRIO_TOLD), digestOf(JSON.stringify(files))];
  if (!isNews && (await readFile(told, 'utf8').catch(() => undefined)) === wanted) return;
  await act('reload-crio', async () => {
    // Looking for the process is cheaper than asking systemd, and in most runs CRI-O is not running yet.
    if (crioPid(host) !== undefined) await reloadCrio(host);
    await writeAtomic(told, wanted);
  });
}

/** A node that serves the cluster also pulls from itself over TLS. Source: containers-certs.d(5). */
async function ownAuthority({ host, settings }: Pick<RunContext, 'host' | 'settings'>): Promise<PlannedMirrors> {
  if (settings.serve === 'node') return { files: [], notices: [] };
  const path = join(dirname(settings.tlsCertificate), 'ca.crt');
  const authority = await readFile(hostPath(host, path), 'utf8').catch(() => undefined);
  if (authority === undefined) {
    const notice = `${path} does not exist: this node trusts its own registry only if it already trusts the CA of its certificate`;
    return { files: [], notices: [notice] };
  }
  const trusted = `/etc/containers/certs.d/${registryAddress({ settings })}/ca.crt`;
  return { files: [{ path: trusted, content: `${OWNED_MARK}\n${authority}`, how: 'add' }], notices: [] };
}
