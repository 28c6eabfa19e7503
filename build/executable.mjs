import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { nodeVersion, run, tool } from './tree.mjs';

const require = createRequire(import.meta.url);

/** Node looks for a blob only where postject has turned the 0 after this mark into a 1. Source: Node's documentation, "Single executable applications". */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1';

/**
 * Puts the code into a stripped copy of a Node.
 * @param scratch an empty directory, for which the caller answers
 * @returns the path of the result, in scratch
 */
export async function executable({ arch, node, code, scratch }) {
  // pkg has no flag for a Node of another processor, but takes what its cache holds; the archive is only a mark there.
  const release = join(scratch, 'home/.pkg-cache/sea', `node-v${nodeVersion}-linux-${arch}`);
  const stripped = join(release, 'bin/node');
  mkdirSync(dirname(stripped), { recursive: true });
  for (const mark of [`${stripped}.ok`, `${release}.tar.gz`, `${release}.tar.gz.ok`]) writeFileSync(mark, '');
  process.env.HOME = join(scratch, 'home');
  process.env.TMPDIR = scratch;
  // Before the injection, never after: strip would drop or move what postject has added.
  run(tool('strip', arch), ['--strip-all', '-o', stripped, node]);

  const output = join(scratch, 'executable');
  writeFileSync(join(scratch, 'prestage-agent.cjs'), code);
  const { default: sea } = require('@yao-pkg/pkg/lib-es5/sea.js');
  await sea(join(scratch, 'prestage-agent.cjs'), {
    targets: [{ platform: 'linux', arch, nodeRange: `node${nodeVersion}`, output }],
    // The path of the code goes into the blob: relative (pkg works in a directory below TMPDIR), so that every tree gives the same bytes.
    // A code cache would save 10 of 50 ms of start (measured at 1.1 MB of code), but its bytes differ from build to build.
    seaConfig: { main: '../prestage-agent.cjs', useCodeCache: false },
  });
  if (!readFileSync(output).includes(FUSE)) throw new Error(`pkg put no code into ${output}: its fuse is not set`);
  chmodSync(output, 0o755);
  return output;
}
