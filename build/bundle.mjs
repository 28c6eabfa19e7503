import { join } from 'node:path';
import { build as esbuild } from 'esbuild';
import { asset, assetPaths, version } from '../agent/assets.ts';
import { digestOf, nodeVersion, top } from './tree.mjs';

/**
 * The one file of code, with assets, addon and worker inside.
 * @returns {Promise<{ code: string, inputs: string[] }>} with the paths of all files that went into it, relative to the top of the tree
 */
export async function bundle(addon) {
  const texts = Object.fromEntries(assetPaths().map((path) => [path, asset(path)]));
  const worker = await oneFile('agent/extract/worker.ts', assetsModule({ texts: {}, addon, workerCode: '' }));
  const main = await oneFile('agent/main.ts', assetsModule({ texts, addon, workerCode: worker.code }));
  return { code: main.code, inputs: [...new Set([...main.inputs, ...worker.inputs])] };
}

async function oneFile(entry, assets) {
  const result = await esbuild({
    absWorkingDir: top,
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    target: `node${nodeVersion}`,
    format: 'cjs',
    legalComments: 'inline',
    logLevel: 'warning',
    // A warning is a dependency that cannot work in one file (a require that esbuild cannot follow): better no executable.
    logOverride: { 'empty-import-meta': 'error', 'require-resolve-not-external': 'error' },
    // CommonJS has no import.meta; packages use it to find files next to them or to make a require for built-in modules.
    define: { 'import.meta.url': 'importMetaUrl' },
    banner: { js: "const importMetaUrl = require('node:url').pathToFileURL(process.execPath).href;" },
    plugins: [
      {
        name: 'assets',
        setup: (building) =>
          building.onLoad({ filter: /[\\/]agent[\\/]assets\.ts$/ }, () => ({
            contents: assets,
            loader: 'js',
            resolveDir: join(top, 'agent'),
          })),
      },
    ],
  });
  return { code: result.outputFiles[0].text, inputs: Object.keys(result.metafile.inputs) };
}

/** The module that stands for agent/assets.ts inside the executable. */
function assetsModule({ texts, addon, workerCode }) {
  return `
    import { PrestageError } from './model/errors.ts';
    const texts = new Map(Object.entries(${JSON.stringify(texts)}));
    export const version = ${JSON.stringify(version)};
    export function assetPaths() { return [...texts.keys()]; }
    export function asset(path) {
      const text = texts.get(path);
      if (text === undefined) throw new PrestageError('ERR_INTERNAL', \`the executable does not contain the file \${path}\`, 'Build the executable again');
      return text;
    }
    export function zlibAddon() {
      return { kind: 'bytes', bytes: Buffer.from(${JSON.stringify(addon.toString('base64'))}, 'base64'), sha256: ${JSON.stringify(digestOf(addon))} };
    }
    export function workerEntry() { return { kind: 'source', code: ${JSON.stringify(workerCode)} }; }
    export function selfCommand() { return [process.execPath]; }
  `;
}
