import assert from 'node:assert/strict';
import * as v from 'valibot';
import { decodeDataUrl } from '../../agent/model/data-url.ts';

const machineConfigSchema = v.object({
  kind: v.literal('MachineConfig'),
  spec: v.object({
    config: v.object({
      ignition: v.object({ version: v.string() }),
      storage: v.object({ files: v.array(v.object({ path: v.string(), contents: v.object({ source: v.string() }) })) }),
    }),
  }),
});

/** The files of all MachineConfigs, decoded. */
export function filesOf(manifests: readonly unknown[]): Readonly<Record<string, string>> {
  const configs = manifests.flatMap((manifest) => (v.is(machineConfigSchema, manifest) ? [manifest] : []));
  const files = configs.flatMap(({ spec }) => spec.config.storage.files);
  return Object.fromEntries(
    files.map(({ path, contents }) => {
      const decoded = decodeDataUrl(contents.source);
      assert.ok(decoded.kind === 'bytes');
      return [path, Buffer.from(decoded.bytes).toString()];
    }),
  );
}
