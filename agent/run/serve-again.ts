import { addNotices, type RunContext } from '../load/context.ts';
import { errorRecord } from '../model/errors.ts';
import type { RunState } from '../model/run-state.ts';
import { readRegistryRecord } from '../registry/serve/service-record.ts';
import { serveTree } from './serve.ts';

/**
 * Starts the registry of a store again that could not be closed: the registry was stopped for it, and the engines still ask it. Nothing to do if it
 * was not stopped. A registry that does not start is a notice: the images of the store are there without it.
 */
export async function serveAgain(earlier: RunState | undefined, context: RunContext): Promise<void> {
  const { host, store } = context;
  const { registry, store: stays } = store.state;
  if (registry === undefined || stays === undefined || earlier?.store?.sha256 !== stays.sha256) return;
  if ((await readRegistryRecord(host)) !== undefined) return;
  try {
    const { tree, blobs, image } = registry;
    await serveTree({ tree, blobs, image, imageStore: stays.path }, context);
  } catch (error) {
    addNotices(context, [`the registry does not start again: ${errorRecord(error).message}`]);
  }
}
