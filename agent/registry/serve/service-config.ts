import { digestOf, hexOf } from '../../model/digest.ts';

/** Paths inside the registry's container. */
export const IN_CONTAINER = {
  tree: '/var/lib/registry',
  config: '/etc/registry/config.yaml',
  certificate: '/etc/registry/tls/registry.crt',
} as const;

/**
 * The path of the key inside the container, which nobody can guess without the key. A link on the partition in place of a layer would be followed, and
 * if it led to the key, the registry would give the key to everybody. So the path is not in the configuration, whose own path is known, but in
 * REGISTRY_HTTP_TLS_KEY.
 * Source: distribution, docs/configuration.md, "Override specific configuration options".
 */
export function keyInContainer(key: string): string {
  return `/etc/registry/tls/${hexOf(digestOf(key))}.key`;
}

export interface ConfigOptions {
  /** `host:port` to listen on; an empty host means all addresses. */
  readonly listen: string;
  readonly hasTls: boolean;
}

/**
 * The configuration of distribution: it serves a tree that it cannot write, caches nothing, asks no other service. JSON, which is YAML. Pure.
 *
 * Read-only maintenance lets it start on a read-only tree, and on one whose layers are missing. Each answer is logged once, by the line
 * `response completed`. The secret signs uploads, which are refused; without one, distribution warns at each start.
 * Source: distribution, docs/configuration.md.
 */
export function registryConfig({ listen, hasTls }: ConfigOptions): string {
  const config = {
    version: 0.1,
    log: { level: 'info', formatter: 'text', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: IN_CONTAINER.tree },
      maintenance: { uploadpurging: { enabled: false }, readonly: { enabled: true } },
      delete: { enabled: false },
    },
    http: {
      addr: listen,
      secret: 'nothing is uploaded',
      ...(hasTls && { tls: { certificate: IN_CONTAINER.certificate, minimumtls: 'tls1.2' } }),
    },
  };
  return `${JSON.stringify(config, undefined, 2)}\n`;
}
