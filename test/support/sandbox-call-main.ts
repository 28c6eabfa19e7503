import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import * as v from 'valibot';
import { plainAct } from '../../agent/host/acts.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { errorRecord } from '../../agent/model/errors.ts';

/** The process that callInside starts: one call as JSON on standard input, how it ended as JSON on standard output. */
const callSchema = v.object({ module: v.string(), name: v.string(), request: v.optional(v.unknown()) });

const { module, name, request } = v.parse(callSchema, JSON.parse(await text(process.stdin)));
const exports: unknown = await import(pathToFileURL(module).href);
const host = linuxHost({ root: '/', env: process.env, log: (severity, message) => process.stderr.write(`${severity}: ${message}\n`) });
const act = v.parse(v.record(v.string(), v.unknown()), { ...(typeof exports === 'object' ? exports : {}) })[name];
if (typeof act !== 'function') throw new Error(`${module} exports no function ${name}`);
const run = { act: plainAct, signal: new AbortController().signal };
const isObject = typeof request === 'object' && request !== null;
try {
  const value: unknown = await act(host, isObject ? { ...request, ...run } : (request ?? plainAct));
  process.stdout.write(JSON.stringify({ value }));
} catch (error) {
  process.stdout.write(JSON.stringify({ error: errorRecord(error) }));
}
