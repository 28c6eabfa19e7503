import { addNotices, type RunContext } from '../load/context.ts';
import { errorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { readRegistryRecord } from '../registry/serve/service-record.ts';
import { serveTree } from './serve.ts';

/**
 * Restarts the registry of a store that could not be closed: the registry was stopped for the closing, and the engines still ask it. Nothing to do if
 * it was not stopped. If it does not start, only a notice says so: the images of the store are present without it.
 */
export async function serveAgain(earlier: RunState | undefined, context: RunContext): Promise<void> {
  const { host, record } = context;
  const { registry, store: stays } = record.state;
  if (registry === undefined || stays === undefined || earlier?.store?.sha256 !== stays.sha256) return;
  if ((await readRegistryRecord(host)) !== undefined) return;
  try {
    const { tree, blobs, image } = registry;
    await serveTree({ tree, blobs, image, imageStore: stays.path }, context);
  } catch (error) {
    addNotices(context, [`the registry could not be restarted: ${errorRecord(error).message}`]);
  }
}
