import type { RunsPrograms } from './machine.ts';

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
# Loop devices on this machine's own file systems: those of others stand on other devices, and /usr is not its own.
loops() {
	losetup --list --noheadings --raw --output BACK-MAJ:MIN | tr -d ' ' | while read -r device; do
		[ "$device" = "$(mountpoint -d /usr)" ] || cut -d' ' -f3 /proc/self/mountinfo | grep -x "$device" | head -n 1
	done | wc -l
}
# The state tells when the last run did what, which is not the same twice.
kib() { echo "$((($(du -sb --exclude=state.json "$1" | cut -f1) + $(jq 'del(.timeline)' "$1/state.json" | wc -c)) / 1024))"; }
storage=/var/lib/containers/storage
printf '{"agentFiles":%d,"agentKiB":%d,"images":%d,"layers":%d,"containers":%d,"loops":%d,"mounts":%d}' \\
	"$(($(files /var/lib/prestage-agent 1) + $(files /run/prestage-agent 1) + $(files /etc/prestage-agent 1)))" \\
	"$(kib /var/lib/prestage-agent)" \\
	"$(podman images --quiet --all | sort -u | wc -l)" \\
	"$(files $storage/overlay 1 1)" \\
	"$(podman ps --all --quiet --external | wc -l)" \\
	"$(loops)" \\
	"$(wc -l </proc/self/mountinfo)"
`;

export async function footprint(machine: RunsPrograms): Promise<Footprint> {
  return JSON.parse(await machine.output(['sh', '-c', COUNT]));
}
