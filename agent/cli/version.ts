import { version } from '../assets.ts';

/** What `--version` prints: the agent and the Node that carries it. */
export function versionText(): string {
  return `prestage-agent ${version} (Node ${process.versions.node}, ${process.arch})`;
}
