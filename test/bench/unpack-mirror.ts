import { plainAct } from '../../agent/host/acts.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { findOcMirror } from '../../agent/tree/archive-sets.ts';
import { unpackOcMirror } from '../../agent/tree/oc-mirror.ts';

/** Unpacks a folder of oc-mirror into a new tree: `unpack-mirror.ts FROM TO`, the subject of the bench. */
const [from = '', to = ''] = process.argv.slice(2);
const host = linuxHost({ root: '/', env: {}, log: (_, message) => process.stderr.write(`${message}\n`) });
const folder = await findOcMirror(from);
const archives = (folder?.sets ?? []).flatMap((set) => set.archives.map((archive) => archive.path));
const { missing, faults, images } = await unpackOcMirror(host, { archives, to, act: plainAct, signal: new AbortController().signal });
if (images === 0 || missing.length > 0 || faults.length > 0)
  throw new Error(`${from}: ${images} images, ${missing.length} missing, ${faults.length} faults`);
