import { closeSync, openSync, readdirSync, readFileSync, readSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';

/** Source: systemd.unit(5), "Unit File Load Path"; generators too, because quadlets become units there. */
const UNIT_FOLDERS = ['/etc/systemd/system', '/run/systemd/system', '/run/systemd/generator', '/usr/lib/systemd/system'];

/**
 * They start podman or skopeo from a program that is not a script, or from scripts that their unit does not name. Source: templates of the Machine
 * Config Operator; NetworkManager-dispatcher(8); rpm-ostree, which reads images by skopeo.
 */
const KNOWN_UNITS = [
  'NetworkManager-dispatcher.service',
  'machine-config-daemon-firstboot.service',
  'machine-config-daemon-host.service',
  'machine-config-daemon-pull.service',
  'nodeip-configuration.service',
  'rpm-ostreed.service',
];

/** CRI-O has a drop-in of its own for the store: through the environment it would get the store a second time. */
const CRIO_UNITS = ['crio.service', 'crio-wipe.service'];

const ENGINE = /\b(?:podman|skopeo)\b/;
/** Source: systemd.service(5), "COMMAND LINES". */
const EXEC_LINE = /^\s*Exec[A-Za-z]+\s*=(.*)$/gm;
/** An absolute path in a command line, also behind the prefixes of systemd and within a line for a shell. */
const PATH = /(?<![\w./-])\/[\w./@+-]+/g;
/** A larger file is not considered a script. */
const SCRIPT_LIMIT_BYTES = 256 * 1024;

/**
 * Services that start podman or skopeo: the known ones, those whose commands name one of them, and those that run a script that names one. Scripts that
 * a script starts are not followed. The agent's own units set their environment themselves. Sorted, as `name.service`.
 *
 * There are some hundred small files, most of them in the page cache: reading them one after the other takes a third of the time that the thread pool
 * takes (7 ms for 350 units).
 */
export function engineUnits(host: Host): readonly string[] {
  const scripts = new Map<string, boolean>();
  const startsEngine = (text: string): boolean =>
    execLines(text).some((line) => ENGINE.test(line) || (line.match(PATH) ?? []).some((path) => isEngineScript(host, path, scripts)));
  const found = UNIT_FOLDERS.flatMap((folder) =>
    namesIn(host, folder)
      .filter((name) => /\.service(?:\.d)?$/.test(name) && !name.startsWith('prestage-'))
      .filter((name) => unitTexts(host, join(folder, name)).some(startsEngine))
      .map((name) => name.replace(/\.d$/, '')),
  );
  return [...new Set([...KNOWN_UNITS, ...found])].filter((name) => !CRIO_UNITS.includes(name)).toSorted();
}

/** The text of a unit, or of the drop-ins in a directory. */
function unitTexts(host: Host, path: string): readonly string[] {
  const files = path.endsWith('.d')
    ? namesIn(host, path)
        .filter((name) => name.endsWith('.conf'))
        .map((name) => join(path, name))
    : [path];
  return files.flatMap((file) => textOf(host, file) ?? []);
}

/** Command lines of a unit, each as one line. Source: systemd.syntax(7). */
function execLines(text: string): readonly string[] {
  return [...text.replaceAll(/\\\n/g, ' ').matchAll(EXEC_LINE)].map(([, line = '']) => line);
}

function isEngineScript(host: Host, path: string, known: Map<string, boolean>): boolean {
  const answer = known.get(path) ?? scriptLines(hostPath(host, path)).some((line) => ENGINE.test(line));
  known.set(path, answer);
  return answer;
}

/** Lines of a script without its comments; none if the file is not a script. Source: execve(2), "Interpreter scripts". */
function scriptLines(file: string): readonly string[] {
  const found = statOf(file);
  if (found?.isFile() !== true || found.size > SCRIPT_LIMIT_BYTES || startOf(file) !== '#!') return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => !/^\s*#/.test(line));
}

function startOf(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const start = Buffer.alloc(2);
    return start.toString('latin1', 0, readSync(descriptor, start));
  } finally {
    closeSync(descriptor);
  }
}

function namesIn(host: Host, directory: string): readonly string[] {
  const found = hostPath(host, directory);
  return statOf(found)?.isDirectory() === true ? readdirSync(found) : [];
}

/** Undefined also for directories and dangling links, which unit folders can hold. */
function textOf(host: Host, path: string): string | undefined {
  const file = hostPath(host, path);
  return statOf(file)?.isFile() === true ? readFileSync(file, 'utf8') : undefined;
}

/** Undefined if there is nothing, or if links form a loop. */
function statOf(file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ELOOP') return undefined;
    throw error;
  }
}
