import { readPlainFile } from '../host/plain-file.ts';
import { digestOf } from '../model/digest.ts';
import type { Descriptor } from '../model/manifest.ts';
import { CONFIG_LIMIT_BYTES, type ImagePlatform, parsePlatform } from '../model/manifest-content.ts';

/**
 * The platform in the config of an image. Both parts are empty if the config cannot be read or does not match its digest; loading the image reports
 * that.
 * @param path of the config
 */
export async function readPlatform(path: string, config: Pick<Descriptor, 'digest'>): Promise<ImagePlatform> {
  const bytes = await readPlainFile(path, CONFIG_LIMIT_BYTES);
  return parsePlatform(bytes !== undefined && digestOf(bytes) === config.digest ? bytes : Buffer.alloc(0));
}
