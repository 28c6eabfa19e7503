import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Footprint, footprintOf } from './footprint.ts';
import { type Delivery, deliverAll, deliveries, type SoakNode } from './node.ts';

/** How often a node was booted and stopped in which way, and what it had grown to. */
export interface SoakFigures {
  readonly boots: number;
  readonly cleanStops: number;
  /** In the midst of a run, without CRI-O having been told. */
  readonly uncleanStops: number;
  /** After every period. */
  readonly footprints: readonly (Footprint & { readonly boot: number })[];
}

/** The last boots of a period bring the same each time and stop cleanly, so that periods can be compared. */
const LAST: readonly Delivery[] = [deliveries.disk, deliveries.registry, deliveries.extract];
const MIXED: readonly Delivery[] = Object.values(deliveries);
/** A run of any delivery is over after this. */
const LONGEST_MS = 1500;

export interface SoakRequest {
  readonly boots: number;
  /** Boots between two looks at what the node has grown to. */
  readonly period: number;
  readonly random: () => number;
}

/** Boots a node again and again, with deliveries and stops at random. Whatever was before, a run that is not cut off comes to its end. */
export async function soakBoots(soak: SoakNode, { boots, period, random }: SoakRequest): Promise<SoakFigures> {
  const footprints: (Footprint & { boot: number })[] = [];
  let uncleanStops = 0;
  for (let boot = 1; boot <= boots; boot++) {
    const last = LAST[LAST.length - 1 - ((period - (boot % period)) % period)];
    const delivery = last ?? MIXED[Math.floor(random() * MIXED.length)] ?? deliveries.extract;
    const isClean = last !== undefined || random() < 0.5;
    if (isClean) await bootCleanly(soak, delivery);
    else await bootUncleanly(soak, delivery, random() * LONGEST_MS);
    if (!isClean) uncleanStops++;
    if (boot % period === 0) footprints.push({ boot, ...(await footprintOf(soak)) });
  }
  return { boots, cleanStops: boots - uncleanStops, uncleanStops, footprints };
}

async function bootCleanly(soak: SoakNode, delivery: Delivery): Promise<void> {
  await using node = await soak.boot();
  await deliverAll(soak, node, delivery);
  assert.equal((await node.status()).readiness, 'ready');
  await soak.stop(node);
}

async function bootUncleanly(soak: SoakNode, delivery: Delivery, afterMs: number): Promise<void> {
  await using node = await soak.boot();
  const ended = node.agent(soak.args(delivery));
  await Promise.race([ended, sleep(afterMs)]);
  await node[Symbol.asyncDispose]();
  await ended;
}

/**
 * Holds the last look against the first: nothing may have grown but by what two ends of the same differ in.
 * @returns what has grown, in words
 */
export function growthOf(footprints: SoakFigures['footprints']): readonly string[] {
  const [first, last] = [footprints[0], footprints.at(-1)];
  if (first === undefined || last === undefined) return ['nothing was measured'];
  const slack: Readonly<Partial<Record<keyof Footprint, number>>> = { stateBytes: 64 * 1024 };
  const keys: readonly (keyof Footprint)[] = [
    'stateFiles',
    'stateBytes',
    'temporaryFiles',
    'etcFiles',
    'etcBytes',
    'images',
    'layers',
    'containers',
  ];
  const grown = keys.filter((key) => last[key] > first[key] + (slack[key] ?? 0)).map((key) => `${key}: ${first[key]} to ${last[key]}`);
  const leaked = (['loops', 'mounts', 'namespaces', 'processes'] as const).filter((key) => last[key] > 0);
  return [...grown, ...leaked.map((key) => `${key}: ${last[key]} are left`)];
}
