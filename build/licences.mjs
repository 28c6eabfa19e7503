import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { nodeVersion, top } from './tree.mjs';

const RULE = '='.repeat(80);

/**
 * The licence texts of all that is in the executables, as they come with each: the project's own, the packages', zlib's, Node's.
 * @param nodePackage the unpacked npm package of Node
 */
export function licences({ packages, zlib, nodePackage }) {
  const { name, version } = JSON.parse(readFileSync(join(top, 'package.json'), 'utf8'));
  const own = { name, version, licenceTexts: [readFileSync(join(top, 'LICENSE'), 'utf8')] };
  const node = { name: 'node', version: nodeVersion, licenceTexts: [readFileSync(join(nodePackage, 'LICENSE'), 'utf8')] };
  return [own, ...packages, zlib, node].map(section).join('\n');
}

function section({ name, version, licenceTexts }) {
  const texts = licenceTexts.map((text) => text.replaceAll('\r\n', '\n').replace(/^\n+|\s+$/g, ''));
  return `${RULE}\n${name}@${version}\n${RULE}\n\n${texts.join('\n\n')}\n`;
}
