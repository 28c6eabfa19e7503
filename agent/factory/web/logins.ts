import { join } from 'node:path';
import * as v from 'valibot';
import type { Exec } from '../../host/exec.ts';
import { readIfThere } from '../../host/files.ts';
import { PrestageError } from '../../model/errors.ts';

/** A login for a registry: a password, or a token that a token server exchanges. */
export type Login = { readonly user: string; readonly password: string } | { readonly identityToken: string };

/** An auth file. Source for this file: containers-auth.json(5); containers/image, pkg/docker/config/config.go. */
export type LoginFile = v.InferOutput<typeof fileSchema>;

export interface LoginContext {
  readonly exec: Exec;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The only auth file to use; those of the user if left out. */
  readonly authFile: string | undefined;
}

const fileSchema = v.object({
  auths: v.optional(
    v.record(v.string(), v.nullish(v.object({ auth: v.optional(v.string(), ''), identitytoken: v.optional(v.string(), '') }))),
    {},
  ),
  credHelpers: v.optional(v.record(v.string(), v.string()), {}),
  credsStore: v.optional(v.string(), ''),
});
const helperSchema = v.pipe(v.string(), v.parseJson(), v.object({ Username: v.string(), Secret: v.string() }));
const DOCKER_HUB = 'docker.io';
/** The user name that a helper returns if the secret is an identity token. Source: docker/docker-credential-helpers. */
const TOKEN_USER = '<token>';

/**
 * The login for a repository, as skopeo finds it: the auth files in their order, and in each the most specific name. Also asks credential helpers.
 * @param name registry and repository
 * @throws PrestageError ERR_PULL_LOGIN for a file that cannot be read, or a helper that fails
 */
export async function findLogin(name: string, context: LoginContext): Promise<Login | undefined> {
  for (const path of filesOf(context)) {
    const text = await readIfThere(path);
    const file = text === undefined ? undefined : parseLogins(text, path);
    const found = file && (loginIn(file, name) ?? (await askHelper(file, name, context.exec)));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Pure. @throws PrestageError ERR_PULL_LOGIN */
export function parseLogins(text: string, path: string): LoginFile {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), fileSchema), text);
  if (parsed.success) return parsed.output;
  throw new PrestageError('ERR_PULL_LOGIN', `${path} is not a valid auth file`, 'Correct it, or give another --authfile');
}

/** The login of a file for a repository. Pure. */
export function loginIn({ auths }: LoginFile, name: string): Login | undefined {
  const byName = new Map(Object.entries(auths).map(([key, value]) => [plainName(key), value]));
  const parts = name.split('/');
  for (let count = parts.length; count > 0; count--) {
    const { auth = '', identitytoken = '' } = byName.get(parts.slice(0, count).join('/')) ?? {};
    if (identitytoken !== '') return { identityToken: identitytoken };
    const text = Buffer.from(auth, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon > 0) return { user: text.slice(0, colon), password: text.slice(colon + 1).replace(/\0+$/, '') };
  }
  return undefined;
}

/** Docker writes registries as addresses, and its own registry by an old name. */
function plainName(key: string): string {
  const name = key.replace(/^https?:\/\//, '').replace(/\/(?:v[12]\/?)?$/, '');
  return name === 'index.docker.io' ? DOCKER_HUB : name;
}

function filesOf({ env, authFile }: LoginContext): readonly string[] {
  if (authFile !== undefined) return [authFile];
  const given = env.REGISTRY_AUTH_FILE ?? '';
  if (given !== '') return [given];
  const { XDG_RUNTIME_DIR: runtime, XDG_CONFIG_HOME: config, HOME: home = '/root', DOCKER_CONFIG: docker } = env;
  return [
    join(runtime ?? `/run/containers/${process.getuid?.() ?? 0}`, runtime === undefined ? 'auth.json' : 'containers/auth.json'),
    join(config ?? join(home, '.config'), 'containers/auth.json'),
    join(docker ?? join(home, '.docker'), 'config.json'),
  ];
}

async function askHelper({ credHelpers, credsStore }: LoginFile, name: string, exec: Exec): Promise<Login | undefined> {
  const [registry = ''] = name.split('/');
  const helper = credHelpers[registry] ?? credsStore;
  if (helper === '') return undefined;
  const program = `docker-credential-${helper}`;
  const result = await exec(program, ['get'], { input: registry === DOCKER_HUB ? 'https://index.docker.io/v1/' : registry });
  if (result.exitCode !== 0 && /credentials not found/i.test(result.stdout + result.stderr)) return undefined;
  const parsed = v.safeParse(helperSchema, result.stdout);
  if (result.exitCode === 0 && parsed.success) {
    const { Username: user, Secret: password } = parsed.output;
    return user === TOKEN_USER ? { identityToken: password } : { user, password };
  }
  throw new PrestageError(
    'ERR_PULL_LOGIN',
    `${program} returned no login for ${registry}`,
    'Give an auth file with the login: --authfile FILE',
  );
}
