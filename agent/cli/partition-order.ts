import { isDirectory } from '../host/files.ts';
import { PrestageError } from '../model/errors.ts';

/** A bundle, which is a folder, and where it goes, which is none. */
export interface BundleAndTarget {
  readonly bundle: string;
  readonly target: string;
}

/** Two arguments in any order: the folder is the bundle. If that does not decide, the bundle is the first. */
export async function bundleAndTarget(first: string, second: string): Promise<BundleAndTarget> {
  const isSwapped = !(await isDirectory(first)) && (await isDirectory(second));
  return isSwapped ? { bundle: second, target: first } : { bundle: first, target: second };
}

/**
 * The arguments of `partition image`: `BUNDLE OUT` in any order, or `OUT --bundle DIR`.
 * @throws PrestageError ERR_USAGE
 */
export async function imageArguments(args: readonly string[], given: unknown): Promise<BundleAndTarget> {
  const [first = '', second] = args;
  const bundle = typeof given === 'string' ? given : undefined;
  if (bundle !== undefined && second === undefined) return { bundle, target: first };
  if (bundle === undefined && second !== undefined) return await bundleAndTarget(first, second);
  const [message, remedy] =
    bundle === undefined
      ? [`only ${first} is given, but an image needs a bundle and a file`, 'Give both: prestage-agent partition image BUNDLE OUT']
      : [`the bundle is given as ${bundle}, so only one argument is expected`, 'Omit --bundle, or give only the file to create'];
  throw new PrestageError('ERR_USAGE', message, remedy);
}
