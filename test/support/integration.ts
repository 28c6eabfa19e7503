import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename, dirname, relative } from 'node:path';

const TOP = 'test/integration';

/** Runs the integration tests of some rooms: `npm run integration -- ROOM...`. A room is a folder, such as `factory/pull` or `pull`, or a word of a file's name. */
const files = globSync(`${TOP}/**/*.test.ts`).toSorted();
const rooms = process.argv.slice(2);
const unknown = rooms.filter((room) => !files.some((file) => isIn(file, room)));

if (rooms.length === 0 || unknown.length > 0) {
  const names = [...new Set(files.map(roomOf))];
  if (unknown.length > 0) process.stderr.write(`${TOP} has no room and no file ${unknown.join(' or ')}.\n`);
  process.stderr.write(`Give a room, or a word of a file's name. The rooms: ${names.join(', ')}\n`);
  process.exitCode = 2;
} else {
  const chosen = files.filter((file) => rooms.some((room) => isIn(file, room)));
  spawn(
    process.execPath,
    ['--import', './test/support/compile-cache.ts', '--test', '--test-reporter=spec', '--test-concurrency=2', ...chosen],
    { stdio: 'inherit' },
  ).once('exit', (exitCode) => {
    process.exitCode = exitCode ?? 1;
  });
}

function roomOf(file: string): string {
  return relative(TOP, dirname(file));
}

function isIn(file: string, room: string): boolean {
  return `/${roomOf(file)}`.endsWith(`/${room}`) || basename(file, '.test.ts').includes(room);
}
