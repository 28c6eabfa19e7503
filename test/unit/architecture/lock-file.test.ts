import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import semver from 'semver';
import * as v from 'valibot';

const names = v.optional(v.record(v.string(), v.string()), {});
const lockSchema = v.object({
  packages: v.record(
    v.string(),
    v.object({
      engines: v.optional(v.union([v.object({ node: v.optional(v.string()) }), v.array(v.string())])),
      optional: v.optional(v.boolean()),
      resolved: v.optional(v.string()),
      dependencies: names,
      devDependencies: names,
      optionalDependencies: names,
    }),
  ),
});
const { packages } = v.parse(lockSchema, JSON.parse(readFileSync('package-lock.json', 'utf8')));
const project = v.parse(v.object({ engines: v.object({ node: v.string() }) }), JSON.parse(readFileSync('package.json', 'utf8')));

test('the lock file has an entry for every package that it names, also for optional packages of other platforms', () => {
  const missing = Object.entries(packages).flatMap(([path, { dependencies, devDependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })
      .filter((name) => !placesOf(path, name).some((place) => place in packages))
      .map((name) => `${path}: ${name}`),
  );
  assert.deepEqual(missing, []);
});

test('the lock file names no registry', () => {
  const resolved = Object.entries(packages).flatMap(([path, entry]) => (entry.resolved === undefined ? [] : [path]));
  assert.deepEqual(resolved, []);
});

test('every package runs on each Node version that engines allows', () => {
  const refused = Object.entries(packages).flatMap(([path, { engines, optional }]) => {
    const wanted = Array.isArray(engines) ? undefined : engines?.node;
    if (optional === true || wanted === undefined || semver.subset(project.engines.node, wanted)) return [];
    return [`${path}: ${wanted}`];
  });
  assert.deepEqual(refused, []);
});

/** Lock entries that a package may take a dependency from: its own node_modules first, then those of the folders above it. */
function placesOf(path: string, name: string): readonly string[] {
  const own = `${path === '' ? '' : `${path}/`}node_modules/${name}`;
  if (path === '') return [own];
  const above = path.lastIndexOf('node_modules/');
  return [own, ...placesOf(path.slice(0, above).replace(/\/$/, ''), name)];
}
