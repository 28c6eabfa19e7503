import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { basename } from 'node:path';

/** Runs the integration tests of some rooms: `npm run integration -- ROOM...`. A room is a word that the name of a file holds: `pull`, `registry`, `hostile`. */
const files = globSync('test/integration/**/*.test.ts').toSorted();
const rooms = process.argv.slice(2);
const unknown = rooms.filter((room) => !files.some((file) => isIn(file, room)));

if (rooms.length === 0 || unknown.length > 0) {
  const names = [...new Set(files.map((file) => basename(file).split(/[-.]/)[0]))];
  if (unknown.length > 0) process.stderr.write(`No file of test/integration has ${unknown.join(' or ')} in its name.\n`);
  process.stderr.write(`Give a word of a file's name, such as one of these: ${names.join(', ')}\n`);
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

function isIn(file: string, room: string): boolean {
  return basename(file, '.test.ts').includes(room);
}
