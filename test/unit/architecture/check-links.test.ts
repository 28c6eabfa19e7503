import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { linkFaults, type Tree } from '../../support/check-links.ts';

const GUIDE = `# The guide, for \`run\`

## Again
## Again

\`\`\`
# No heading
\`\`\`

See [above](#the-guide-for-run), [the second](#again-1) and [the readme](../README.md#top).
`;

const FILES = new Map([
  ['README.md', '# Top\n'],
  ['docs/guide.md', GUIDE],
  ['docs/picture.svg', '<svg/>\n'],
  ['agent/run/plan.ts', ''],
]);

/** The documents above and one more, `docs/a.md`. A folder exists if a file is in it; `agent/*` are all folders of agent. */
function treeWith(text: string): Tree {
  const files = new Map([...FILES, ['docs/a.md', text]]);
  const has = (path: string) =>
    [...files.keys()].some((file) => `${file}/`.startsWith(path.replace(/\/?$/, '/').replace('agent/*', 'agent/run')));
  return { has, textOf: (path) => files.get(path) ?? '' };
}

function faultsOf(text: string): readonly string[] {
  return linkFaults('docs/a.md', treeWith(text));
}

describe('the check of links', () => {
  it('accepts links to files, folders, pictures and headings, and leaves addresses on the network alone', () => {
    const text =
      '[a](guide.md) [b](../agent/run) ![c](picture.svg) [d](guide.md#again-1) [e](https://example.com/none#x) [f](mailto:a@example.com)';
    assert.deepEqual(faultsOf(text), []);
    assert.deepEqual(linkFaults('docs/guide.md', treeWith('')), []);
  });

  const broken = [
    ['no file', '[a](gone.md)', 'the link to gone.md leads to no file: docs/gone.md does not exist'],
    ['no picture', '![a](gone.svg)', 'the link to gone.svg leads to no file: docs/gone.svg does not exist'],
    ['no file from a wrong folder', '[a](README.md)', 'the link to README.md leads to no file: docs/README.md does not exist'],
    ['no heading of another document', '[a](guide.md#gone)', 'the link to guide.md#gone leads to no heading of docs/guide.md'],
    ['no third heading of that name', '[a](guide.md#again-2)', 'the link to guide.md#again-2 leads to no heading of docs/guide.md'],
    ['a comment in code', '[a](guide.md#no-heading)', 'the link to guide.md#no-heading leads to no heading of docs/guide.md'],
    ['no file, under a name in backticks', '[`a`](gone.md)', 'the link to gone.md leads to no file: docs/gone.md does not exist'],
    ['no file, with a title', '[a](gone.md "A")', 'the link to gone.md leads to no file: docs/gone.md does not exist'],
    ['no heading of the document itself', '[a](#gone)', 'the link to #gone leads to no heading of docs/a.md'],
    ['a place outside of the repository', '[a](../../other)', 'the link to ../../other leads out of the repository'],
    ['the top of the server', '[a](/README.md)', 'the link to /README.md leads out of the repository'],
  ] as const;
  for (const [what, text, fault] of broken) {
    it(`refuses a link that leads to ${what}, with its line`, () => {
      assert.deepEqual(faultsOf(`# A\n\none\ntwo ${text}\n`), [`docs/a.md:4: ${fault}`]);
    });
  }

  it('refuses a definition of a link that leads to no file', () => {
    assert.deepEqual(faultsOf('[a][b]\n\n[b]: gone.md\n'), [
      'docs/a.md:3: the link to gone.md leads to no file: docs/gone.md does not exist',
    ]);
  });

  it('finds links in lists, tables and bold text, and tells all faults in the order of their lines', () => {
    const text = '* one\n  * **[a](x.md)**\n\n| a | b |\n|---|---|\n| 1 | [b](y.md) |\n\n> [c](z.md)\n';
    assert.deepEqual(
      faultsOf(text).map((fault) => fault.split(' leads')[0]),
      ['docs/a.md:2: the link to x.md', 'docs/a.md:6: the link to y.md', 'docs/a.md:8: the link to z.md'],
    );
  });

  it('takes nothing in code for a link', () => {
    assert.deepEqual(faultsOf('`[a](gone.md)` and ``a ` [a](gone.md)``\n\n```\n[a](gone.md) and # no heading\n```\n'), []);
  });
});

describe('the check of paths', () => {
  it('accepts files and folders that exist, in text, in backticks and in code, and a folder in capitals', () => {
    assert.deepEqual(faultsOf('agent/run/plan.ts, `agent/run/`, agent/ROOM/plan.ts.\n\n```\nplan  agent/run/plan.ts\n```\n'), []);
  });

  it('leaves paths of others and parts of longer paths alone', () => {
    assert.deepEqual(
      faultsOf('containers/image/docs/gone.md, /usr/docs/gone, https://example.com/docs/gone, ./test/gone, my-agent/gone'),
      [],
    );
  });

  for (const text of ['agent/run/gone.ts', '`agent/run/gone.ts`', '(agent/run/gone.ts),', '```\nagent/run/gone.ts\n```']) {
    it(`refuses ${JSON.stringify(text)}, because the file does not exist`, () => {
      const line = text.startsWith('```') ? 3 : 2;
      assert.deepEqual(faultsOf(`one\n${text}\n`), [`docs/a.md:${line}: agent/run/gone.ts does not exist`]);
    });
  }
});
