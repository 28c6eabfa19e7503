import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecResult } from '../../agent/host/exec.ts';
import { CUTS, type Cut, FILE_SYSTEMS, type FileSystem } from './cut-disk.ts';

/** A machine in which a command is given, on a disk whose power can be cut. The lease takes all of it away. */
export interface PoweredPlace extends AsyncDisposable {
  start(): StartedCommand;
  /** Everything done so far is on the disk. */
  sync(): Promise<void>;
  /** From here on nothing reaches the disk. */
  cut(what: Cut): Promise<void>;
  /** Every process of the machine is gone at once, and it boots again. */
  reboot(): Promise<void>;
  /** Whether a record on the disk says that the command has come to its end. */
  claimsDone(): Promise<boolean>;
  /** Reads what the command has brought about, down to its last byte, as it is used; throws where it is not what it is taken for. */
  verify(): Promise<void>;
  /** The same after a cut, for what lies on the disk. @param isClaimed that the command has come to its end */
  verifyKept(isClaimed: boolean): Promise<void>;
  /** What the command has brought about, equal for equal ends. */
  end(): Promise<unknown>;
}

export interface StartedCommand {
  readonly ended: Promise<ExecResult>;
}

export interface PowerScenario {
  readonly name: string;
  prepare(): Promise<PreparedPower>;
}

/** What is made once for all trials of a scenario. */
export interface PreparedPower extends AsyncDisposable {
  /** A place in which the command is to be given. */
  open(fileSystem: FileSystem): Promise<PoweredPlace>;
}

export interface Moment {
  readonly fileSystem: FileSystem;
  readonly cut: Cut;
  /** Part of the usual duration of the command. */
  readonly at: number;
}

/** How an undisturbed command ends, and how long it takes. */
export interface Undisturbed {
  readonly end: unknown;
  readonly durationMs: number;
}

/** Random numbers in [0, 1) that are the same for the same seed. Source: "mulberry32". */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Moments by turns on the file systems and with the kinds of a cut; a twentieth of them after the usual end. Pure. */
export function momentsOf(count: number, random: () => number): readonly Moment[] {
  return Array.from({ length: count }, (_, index) => ({
    fileSystem: FILE_SYSTEMS[index % FILE_SYSTEMS.length] ?? 'xfs',
    cut: CUTS[Math.floor(index / FILE_SYSTEMS.length) % CUTS.length] ?? 'all',
    at: random() * 1.05,
  }));
}

export async function runUndisturbed(prepared: PreparedPower): Promise<Undisturbed> {
  await using place = await prepared.open('xfs');
  const startMs = performance.now();
  const { exitCode, stderr } = await place.start().ended;
  assert.equal(exitCode, 0, stderr);
  const durationMs = performance.now() - startMs;
  await place.verify();
  return { end: await place.end(), durationMs };
}

/**
 * Cuts the power in the midst of a command, boots, looks, gives the command again and looks again.
 * @returns whether the end was on record before the cut
 */
export async function tryCut(prepared: PreparedPower, moment: Moment, { end, durationMs }: Undisturbed): Promise<boolean> {
  await using place = await prepared.open(moment.fileSystem);
  await place.sync();
  const wasDone = await cutDuring(place, moment, durationMs);
  const claims = await place.claimsDone();
  if (wasDone) assert.ok(claims, 'the command had ended well before the cut, and nothing on the disk says so');
  await place.verifyKept(claims);
  const again = await place.start().ended;
  assert.equal(again.exitCode, 0, `${again.stdout}${again.stderr}`);
  assert.ok(
    await place.claimsDone(),
    `a second run ended well, and the disk does not say so: ${again.stdout}${again.stderr}${JSON.stringify(await place.end())}`,
  );
  await place.verify().catch((error: unknown) => {
    throw new Error(`after a second run that ended well: ${again.stderr}`, { cause: error });
  });
  assert.deepEqual(await place.end(), end);
  return claims;
}

/** Leaves the machine booted again. @returns whether the command had ended well before */
async function cutDuring(place: PoweredPlace, { cut, at }: Moment, durationMs: number): Promise<boolean> {
  const { ended } = place.start();
  const first = await Promise.race([ended, sleep(at * durationMs)]);
  await place.cut(cut);
  await place.reboot();
  await ended;
  return first?.exitCode === 0;
}
