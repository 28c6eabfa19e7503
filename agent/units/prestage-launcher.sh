#!/bin/bash
# docs/ignition.md
set -Eeu
R=${PRESTAGE_ROOT-} LABEL=data AGENT_SHA256= WAIT=300 soft=0 held=
E=$R/etc/prestage-agent/launcher.env
[ ! -f "$E" ] || . "$E"
T=$R/usr/local/bin/prestage-agent
M=$R/run/prestage-agent/launcher
case " $* " in *\ --policy[\ =]open\ *) soft=64 ;; esac

say() {
	echo "${JOURNAL_STREAM:+<$1>}prestage-launcher: $2" >&2
	systemd-notify --status="$2" 2>&- || :
}
release() {
	exec 8<&-
	for _ in {1..9}; do
		rmdir "$M" 2>&- || [ ! -e "$M" ] && return
		umount "$M" || sleep 1
	done
	die 5 "$M is busy"
}
die() {
	trap - ERR TERM INT
	say 3 "$2"
	if [ "$held" ]; then
		held=
		rm -f "$T.tmp"
		release
	fi
	exit $(($1 + soft))
}
trap 'die 9 "line $LINENO failed"' ERR
trap 'die 11 interrupted' TERM INT

pinned() { sha256sum --status -c <<<"$AGENT_SHA256  $1" 2>&-; }
devices() {
	blkid -c /dev/null | grep -Fe' PARTLABEL="'$LABEL\" -e' LABEL="'$LABEL'" TYPE="iso' | cut -d: -f1 | xargs -r realpath | sort -u |
		while read -r d; do
			[ "$(ls "/sys/class/block/${d##*/}/../holders" 2>&- || :)" ] || echo "$d"
		done
}
fetch() {
	exec 9<"${T%/*}"
	flock 9
	release
	held=1
	for ((t = 0; ; t++)); do
		d=$(devices)
		[ -z "$d" ] || break
		((t < WAIT)) || die 5 "no partition $LABEL after $WAIT s: attach its disk"
		((t % 9)) || say 5 "waiting for partition $LABEL"
		sleep 1
	done
	[[ $d != *$'\n'* ]] || die 5 "several partitions $LABEL: detach all but one of ${d//$'\n'/ }"
	mkdir -m 700 -p "$M"
	o=ro,nosuid,nodev,noexec
	mount -t xfs,ext4 -o $o,norecovery "$d" "$M" || mount -t iso9660 -o $o "$d" "$M" || die 5 "$d does not mount"
	f=$M/prestage-agent
	[ -f "$f" ] || f=$M/bin/prestage-agent-linux-$(uname -m | sed s/x86_/x/\;s/aarch/arm/)
	[ -f "$f" ] || die 6 "no prestage-agent on $d"
	exec 8<"$f"
	[ "$(readlink /proc/self/fd/8)" = "$f" ] || die 6 "$f on $d is, or is below, a link"
	chmod -f 600 "$T.tmp" || :
	umask 077
	head -c 512M <&8 >"$T.tmp"
	umask 022
	pinned "$T.tmp" || die 6 "$f on $d does not have the pinned sha256 $AGENT_SHA256"
	chmod 755 "$T.tmp"
	! command -v restorecon >/dev/null || restorecon "$T.tmp"
	sync "$T.tmp"
	mv -f "$T.tmp" "$T"
	sync "${T%/*}"
	release
	exec 9<&-
}

if [ "$AGENT_SHA256" ]; then
	pinned "$T" || fetch
else
	[ -x "$T" ] || die 6 "$T is missing, and $E has no AGENT_SHA256"
fi
exec "$T" "$@"
