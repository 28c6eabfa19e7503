/** The flag of an option as commander names it: `listDiscovery` is `--list-discovery`; of one with several values, `agent.0` is `--agent`. Pure. */
export function flagOf(path: string): string {
  const name = path.replace(/\..*$/, '');
  return `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
