import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { type Host, hostPath } from '../../host/host.ts';
import { REGISTRY_RUN } from '../../model/places.ts';
import { sealRecord, unsealRecord } from '../../model/seal.ts';
import { FILES } from './service-plan.ts';

/** How a registry was started; written before it is started. */
const recordSchema = v.object({
  /** RegistryPlan.identity. */
  identity: v.string(),
  /** `host:port` as clients write it. */
  address: v.string(),
  /** The address at which this node reaches it. */
  probeHost: v.string(),
  port: v.number(),
  hasTls: v.boolean(),
  how: v.picklist(['quadlet', 'unit', 'podman']),
  /** podman's own options: they name the storage. */
  global: v.array(v.string()),
  env: v.record(v.string(), v.string()),
});

export type RegistryRecord = v.InferOutput<typeof recordSchema>;

export function formatRegistryRecord(record: RegistryRecord): string {
  return sealRecord(record);
}

/** The record of a registry that was started in this boot; undefined if there is none, or if it is damaged. */
export async function readRegistryRecord(host: Host): Promise<RegistryRecord | undefined> {
  const text = await readFile(join(hostPath(host, REGISTRY_RUN), FILES.record), 'utf8').catch(() => '');
  const parsed = v.safeParse(recordSchema, unsealRecord(text));
  return parsed.success ? parsed.output : undefined;
}
