import assert from 'node:assert/strict';
import { decodeDataUrl } from '../../agent/model/data-url.ts';
import { parseConfig } from '../../agent/units/config.ts';
import { type IgnitionOptions, runIgnition } from '../../agent/units/ignition.ts';
import { author } from './ignition.ts';

/** An override as a node gets it: its files as a sandbox takes them, and the units by name. */
export interface Rendered {
  readonly files: Readonly<Record<string, { readonly content: string; readonly mode: number }>>;
  readonly units: Readonly<Record<string, string>>;
}

export async function rendered(options: IgnitionOptions): Promise<Rendered> {
  const { storage, systemd } = parseConfig((await runIgnition(options, author)).text, 'rendered');
  const files = (storage?.files ?? []).map(({ path, mode, contents }) => {
    const decoded = decodeDataUrl(contents?.source ?? '');
    assert.ok(decoded.kind === 'bytes');
    return [path, { content: Buffer.from(decoded.bytes).toString('utf8'), mode: mode ?? 0o644 }] as const;
  });
  return {
    files: Object.fromEntries(files),
    units: Object.fromEntries((systemd?.units ?? []).map(({ name, contents }) => [name, contents ?? ''])),
  };
}
