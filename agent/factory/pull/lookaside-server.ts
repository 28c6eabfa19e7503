import { readFile, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { ifMissing } from '../../host/files.ts';
import type { Host } from '../../host/host.ts';
import { PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';
import { PAYLOAD_LIMIT_BYTES } from '../../signatures/attachment.ts';
import { bytesOf, createHttpClient, type HttpClient, shown, Transient } from '../web/http.ts';
import type { PullSource } from '../web/source.ts';
import { httpOptions, readCertificates, statusError } from '../web/source-http.ts';

/** Reads files of lookasides. Disposing of it closes its connections. */
export interface LookasideServer extends Disposable {
  /**
   * The bytes of a file, or undefined if it is absent: a 404, or no such file. Nothing else counts as absent.
   * @throws PrestageError ERR_PULL_*, ERR_SIGNATURE for one above 4 MiB, ERR_FETCH_*; the signal's reason
   */
  get(url: URL, signal: AbortSignal): Promise<Buffer | undefined>;
}

const AGAIN = 'Pull again later, or give another --lookaside';

/** @param source its certificates and proxy apply to lookasides, too, as with engines */
export async function openLookasideServer({ env }: Pick<Host, 'env'>, source: PullSource): Promise<LookasideServer> {
  const client = createHttpClient(httpOptions(env, source, await readCertificates(source.certDir)));
  return {
    get: async (url, signal) => (url.protocol === 'file:' ? await fromFile(url) : await fromWeb(url, client, signal)),
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

async function fromFile(url: URL): Promise<Buffer | undefined> {
  const path = fileURLToPath(url);
  const unreadable = (cause: unknown): PrestageError =>
    new PrestageError('ERR_SIGNATURE', `${path} cannot be read: ${reasonOf(cause)}`, 'Correct the folder of the lookaside', { cause });
  try {
    const found = await stat(path).catch(ifMissing(() => undefined));
    if (found === undefined) return undefined;
    if (!found.isFile()) throw new Error('it is not a plain file');
    if (found.size > PAYLOAD_LIMIT_BYTES) throw tooLarge(path);
    return await readFile(path);
  } catch (error) {
    throw error instanceof PrestageError ? error : unreadable(error);
  }
}

async function fromWeb(url: URL, client: HttpClient, signal: AbortSignal): Promise<Buffer | undefined> {
  try {
    const answer = await client.ask(url, { method: 'GET', signal });
    if (answer.status === 200) return await bytesOf(answer, PAYLOAD_LIMIT_BYTES, () => tooLarge(shown(answer.url)));
    answer.drop();
    if (answer.status === 404) return undefined;
    throw statusError(url, answer.status, AGAIN);
  } catch (error) {
    if (!(error instanceof Transient)) throw error;
    throw new PrestageError('ERR_PULL_NETWORK', error.error.message, AGAIN, { cause: error });
  }
}

function tooLarge(where: string): PrestageError {
  return new PrestageError(
    'ERR_SIGNATURE',
    `the signature ${where} has more than ${PAYLOAD_LIMIT_BYTES} bytes, the limit of engines`,
    'Check the file; sign the image again, or give another --lookaside',
  );
}
