import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';

/** Where engines and the kubelet keep logins. Source: containers-auth.json(5); OpenShift, "global pull secret". */
const LOGINS = [
  '/run/containers/0/auth.json',
  '/root/.config/containers/auth.json',
  '/root/.docker/config.json',
  '/root/.dockercfg',
  '/var/lib/kubelet/config.json',
  '/etc/containers/auth.json',
  '/etc/crio/auth.json',
];
/** Variables whose values are secrets, or addresses that can hold one. */
const SECRET_NAME = /passw|secret|token|credential|api_?key|auth/i;
const ADDRESS_NAME = /_proxy$/i;

/**
 * Reads the secrets of this machine in known places: registry logins with their parts, and secrets in the environment.
 * They are used to find and hide these texts in a report, and are stored nowhere.
 */
export async function knownSecrets(host: Host): Promise<readonly string[]> {
  const { env } = host;
  const home = env.HOME;
  const own = [
    env.REGISTRY_AUTH_FILE,
    env.DOCKER_CONFIG && join(env.DOCKER_CONFIG, 'config.json'),
    env.XDG_RUNTIME_DIR && join(env.XDG_RUNTIME_DIR, 'containers/auth.json'),
    ...(home ? ['.config/containers/auth.json', '.docker/config.json', '.dockercfg'].map((file) => join(home, file)) : []),
  ];
  const paths = [...LOGINS.map((path) => hostPath(host, path)), ...own.flatMap((path) => (path ? [path] : []))];
  const texts = await Promise.all(paths.map(async (path) => await readFile(path, 'utf8').catch(() => '')));
  return [...new Set([...texts.flatMap(loginSecrets), ...environmentSecrets(env)])];
}

/** All values under the keys of a login, and for `auth`, which is base64 of `user:password`, also the pair and the password. Pure. */
export function loginSecrets(text: string): readonly string[] {
  const found: string[] = [];
  for (const [, key = '', value = ''] of text.matchAll(/"(auth|password|secret|identitytoken|registrytoken)"\s*:\s*"([^"]+)"/gi)) {
    found.push(value);
    if (key.toLowerCase() !== 'auth') continue;
    const pair = Buffer.from(value, 'base64').toString('utf8');
    found.push(pair, pair.slice(pair.indexOf(':') + 1));
  }
  return found;
}

function environmentSecrets(env: Host['env']): readonly string[] {
  return Object.entries(env).flatMap(([name, value]) => {
    if (value === undefined || value === '') return [];
    if (ADDRESS_NAME.test(name)) return [URL.parse(value)?.password ?? ''].flatMap((password) => [password, decode(password)]);
    return SECRET_NAME.test(name) && !value.startsWith('/') ? [value] : [];
  });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
