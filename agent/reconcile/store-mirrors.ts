import { crioAwareness } from '../engine/crio-store.ts';
import { systemFileReleaseSteps } from '../engine/owned-release.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { DROP_IN_PATH, type MirrorRequest } from '../registry/registries-drop-in.ts';
import { withoutRewrite } from '../registry/registries-marks.ts';
import { reloadCrio } from '../registry/registries-reload.ts';
import { REGISTRIES_CONF } from '../registry/registries-view.ts';
import type { RunContext } from './context.ts';
import { setMirrors } from './serve.ts';

/**
 * Puts the metadata mirror of a store in front of the sources, but not while CRI-O does not know the store. Such a CRI-O would take manifests from
 * the mirror and find their layers nowhere: its pulls would fail with "blob unknown to registry", also where the source answers. Then mirrors of an
 * earlier run go as well, and the state says what comes next.
 * @throws PrestageError ERR_REGISTRIES, ERR_SYSTEM_FILE
 */
export async function setStoreMirrors(sources: MirrorRequest['sources'], context: RunContext): Promise<void> {
  const { host, store, stage } = context;
  if ((await crioAwareness(host)) !== 'unaware') return await setMirrors(sources, context);
  await withdrawMirrors(context);
  const error = new PrestageError(
    'ERR_CRIO_STORE',
    'CRI-O was started before it was told of the store, and does not see its images: the mirror of the store is not in front of the sources',
    `Restart CRI-O, then start the run again: systemctl restart crio; prestage-agent run --stage ${stage}`,
  );
  host.log('warning', error.message);
  store.update({ error: errorRecord(error) });
}

async function withdrawMirrors({ host, step }: RunContext): Promise<void> {
  const steps = (await systemFileReleaseSteps(host, { [REGISTRIES_CONF]: withoutRewrite })).filter(
    ({ path }) => path === DROP_IN_PATH || path === REGISTRIES_CONF,
  );
  for (const { name, run } of steps) await step(name, run);
  if (steps.length > 0) await step('reload-crio', async () => void (await reloadCrio(host)));
}
