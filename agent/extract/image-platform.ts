import { readPlainFile } from '../host/plain-file.ts';
import { digestOf } from '../model/digest.ts';
import type { Descriptor } from '../model/manifest.ts';
import { CONFIG_LIMIT_BYTES, type ImagePlatform, parsePlatform } from '../model/manifest-content.ts';

/**
 * The platform that the config of an image names. Both are empty if it cannot be read, or has other bytes than its digest says: what loads the image
 * reports that.
 * @param path of the config
 */
export async function readPlatform(path: string, config: Pick<Descriptor, 'digest'>): Promise<ImagePlatform> {
  const bytes = await readPlainFile(path, CONFIG_LIMIT_BYTES);
  return parsePlatform(bytes !== undefined && digestOf(bytes) === config.digest ? bytes : Buffer.alloc(0));
}
