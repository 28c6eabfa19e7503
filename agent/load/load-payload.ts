import type { Payload } from '../extract/payload.ts';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import { availableMemoryBytes, spaceAt } from '../host/space.ts';
import { inspectStorage, type StorageLocation } from '../storage/records.ts';
import type { Planned, RunContext } from './context.ts';
import { deliver, syncStorage } from './load-images.ts';
import { planSteps } from './plan.ts';
import { computeNeeds, findShortages } from './preflight.ts';
import { recordPlan } from './record-plan.ts';
import { chooseScratch } from './scratch.ts';
import { readSurveys, surveyPayload, writeSurveys } from './survey.ts';

/**
 * Makes containers-storage match a payload: existing images are kept, missing or damaged ones are loaded.
 * @throws PrestageError ERR_SPACE_* before anything is changed
 */
export async function extractPayload(payload: Payload, location: StorageLocation, context: RunContext): Promise<Planned> {
  const { host, settings, record, act, isDry } = context;
  record.update({ payload: payload.kind, notices: [...record.state.notices, ...payload.notices] });
  const memoryBytes = await availableMemoryBytes();
  await using pool = createArchivePool({ size: Math.max(1, settings.parallel ?? host.cores), log: host.log });
  const { steps, surveys, hasNews } = await plan(payload, location, pool, context);
  const loads = steps.filter((planned) => planned.kind === 'load');
  const needs = computeNeeds(loads, { cores: host.cores, memoryBytes }, settings.parallel);
  recordPlan({ steps, needs, order: payload.listed }, record, context.onEvent);
  const scratchPath = await chooseScratch(host, settings.scratch, { bytes: needs.scratchBytes, memoryBytes });
  const shortages = findShortages(
    needs,
    { cores: host.cores, memoryBytes, storage: await spaceAt(location.graphroot), scratch: await spaceAt(scratchPath) },
    context.stage,
  );
  for (const shortage of shortages) host.log('error', shortage.message);
  if (shortages[0] !== undefined) throw shortages[0];
  if (isDry) return { steps, needs, setup: [] };
  if (hasNews) await act('record-survey', async () => await writeSurveys(host, surveys));
  if (loads.length > 0) await deliver(loads, { payload, location, pool, needs, scratchPath }, context);
  if (record.state.unsynced.length > 0) await syncStorage(location, context);
  return { steps, needs, setup: [] };
}

async function plan(payload: Payload, location: StorageLocation, pool: ArchivePool, context: RunContext) {
  const suspect = new Set(context.record.state.suspect);
  const storage = await inspectStorage(location);
  const { images, refused, ...surveyed } = await surveyPayload(payload, storage, {
    host: context.host,
    pool,
    known: await readSurveys(context.host),
    suspect,
    signal: context.stop,
  });
  return { steps: planSteps({ images, refused, storage, suspect }), ...surveyed };
}
