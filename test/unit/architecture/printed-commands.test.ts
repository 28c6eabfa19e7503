import assert from 'node:assert/strict';
import { test } from 'node:test';
import { printedCommands } from '../../support/printed-commands.ts';

test('the commands of a guide are those in its code blocks, without their comments', () => {
  const guide =
    '`prestage-agent run`\n```\n# at the factory\nprestage-agent build --to b   # a comment\nls\n```\nprestage-agent verify b\n';
  assert.deepEqual(printedCommands(guide), [{ text: 'prestage-agent build --to b', line: 4 }]);
});
