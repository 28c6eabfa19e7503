import { parse } from 'smol-toml';
import * as v from 'valibot';
import { messageOf } from '../model/errors.ts';
import { STORAGE_CONF, STORE_PATH } from '../model/places.ts';
import type { Stage } from '../model/stage.ts';
import { OWNED_MARK } from '../system-files/file.ts';
import type { SystemFile } from '../system-files/put.ts';
import { type ConfFile, CRIO_DROP_IN, type EngineFacts, ETC_STORAGE_CONF } from './engine-facts.ts';
import { addStore, listedStores } from './storage-conf.ts';

/** The files that make the engines see the additional image store, and notices for people. */
export interface EnginePlan {
  readonly files: readonly SystemFile[];
  readonly notices: readonly string[];
}

/** CRI-O's spellings of one more store. Source: github.com/containers/storage, drivers/overlay/overlay.go, parseOptions. */
const OUR_OPTION = new RegExp(`^(?:overlay\\.)?(?:additional)?imagestore=${STORE_PATH}$`);
const crioSchema = v.object({
  crio: v.optional(v.object({ storage_option: v.optional(v.array(v.string()), []) }), { storage_option: [] }),
});

/**
 * The files that tell podman, skopeo and CRI-O about the store. In discovery /etc/containers/storage.conf is changed, which all of them read. On the
 * installed node that file belongs to the Machine Config Operator, which treats any change as a fault: there CRI-O gets a drop-in, and podman an
 * environment variable in units and login shells. Pure. Source: docs/field-facts.md, "Files of the Machine Config Operator".
 * @throws PrestageError ERR_SYSTEM_FILE if the store cannot be added to the storage.conf that is in force
 */
export function planEngineFiles(facts: EngineFacts, stage: Stage): EnginePlan {
  if (listedStores(facts.storageConf).includes(STORE_PATH)) return { files: [], notices: [] };
  const withStore = addStore(facts.storageConf, STORE_PATH);
  if (stage === 'discovery') return { files: [{ path: ETC_STORAGE_CONF, content: withStore, how: 'edit' }], notices: [] };
  const crio = facts.crio === undefined ? { files: [], notices: [] } : planCrio(facts.crio);
  return {
    files: [
      add(STORAGE_CONF, `# The settings of ${ETC_STORAGE_CONF}, with one more additional image store.\n${withStore}`),
      ...crio.files,
      ...unitDropIns(facts.units),
      ...(facts.hasProfile ? [add('/etc/profile.d/50-prestage.sh', PROFILE)] : []),
    ],
    notices: crio.notices,
  };
}

/** For each unit that starts podman or skopeo, and for no other: CRI-O in particular would get the store twice, in two spellings. */
function unitDropIns(units: readonly string[]): readonly SystemFile[] {
  return units.map((name) =>
    add(`/run/systemd/system/${name}.d/50-prestage.conf`, `[Service]\nEnvironment=CONTAINERS_STORAGE_CONF=${STORAGE_CONF}\n`),
  );
}

/** For root alone: podman of another user has a storage of its own, for which root's storage.conf is wrong. */
const PROFILE = `if [ "\${EUID:-$(id -u)}" = 0 ] && [ -r ${STORAGE_CONF} ]; then
  export CONTAINERS_STORAGE_CONF=${STORAGE_CONF}
fi
`;

/**
 * The drop-in for CRI-O. Newer versions combine the options of all files; older ones use only the list of the last file by name. So ours repeats the
 * options of the files before it. Source: crio.conf.d(5); github.com/cri-o/cri-o, pkg/config/config.go, UpdateFromDropInFile.
 */
function planCrio(files: readonly ConfFile[]): EnginePlan {
  const read = files.map((file) => ({ path: file.path, ...crioOptions(file) }));
  const notices = read.flatMap(({ fault }) => (fault === undefined ? [] : [fault]));
  if (read.some(({ options }) => options.some((option) => OUR_OPTION.test(option)))) return { files: [], notices };
  const [before, after] = [read.filter(({ path }) => path < CRIO_DROP_IN), read.filter(({ path }) => path > CRIO_DROP_IN)];
  const options = [...new Set(before.flatMap((file) => file.options)), `additionalimagestore=${STORE_PATH}`];
  const lines = options.map((option) => `  ${JSON.stringify(option)},\n`);
  const later = after.filter((file) => file.options.length > 0).map(({ path }) => path);
  return {
    files: [add(CRIO_DROP_IN, `[crio]\nstorage_option = [\n${lines.join('')}]\n`)],
    notices: [
      ...notices,
      ...later.map(
        (path) => `${path} has storage_option and comes after ${CRIO_DROP_IN}: an older CRI-O uses only that list, without our store`,
      ),
    ],
  };
}

function crioOptions(file: ConfFile): { readonly options: readonly string[]; readonly fault?: string } {
  try {
    return { options: v.parse(crioSchema, parse(file.text)).crio.storage_option };
  } catch (error) {
    const reason = messageOf(error).split('\n')[0] ?? '';
    return { options: [], fault: `${file.path} cannot be read, so its storage options are unknown: ${reason}` };
  }
}

function add(path: string, text: string): SystemFile {
  return { path, content: `${OWNED_MARK}\n${text}`, mode: 0o644, how: 'add' };
}
