import type { Machine } from './machine.ts';

/** What must not grow from boot to boot, as counts. */
export interface Footprint {
  readonly agentFiles: number;
  readonly agentKiB: number;
  readonly images: number;
  readonly layers: number;
  readonly containers: number;
  readonly loops: number;
  readonly mounts: number;
}

const COUNT = `
files() { find "$1" -mindepth "$2" \${3:+-maxdepth "$3"} 2>/dev/null | wc -l; }
storage=/var/lib/containers/storage
printf '{"agentFiles":%d,"agentKiB":%d,"images":%d,"layers":%d,"containers":%d,"loops":%d,"mounts":%d}' \\
	"$(($(files /var/lib/prestage-agent 1) + $(files /run/prestage-agent 1) + $(files /etc/prestage-agent 1)))" \\
	"$(du -sk --apparent-size /var/lib/prestage-agent | cut -f1)" \\
	"$(podman images --quiet --all | sort -u | wc -l)" \\
	"$(files $storage/overlay 1 1)" \\
	"$(podman ps --all --quiet --external | wc -l)" \\
	"$(cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -c -e ^/run/prestage-agent -e ^/var/lib/prestage-agent)" \\
	"$(wc -l </proc/self/mountinfo)"
`;

export async function footprint(machine: Machine): Promise<Footprint> {
  return JSON.parse(await machine.output(['sh', '-c', COUNT]));
}
