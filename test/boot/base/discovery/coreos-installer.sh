#!/bin/bash
# Stand-in for coreos-installer(8): coreos-installer install [--ignition-file FILE] [--save-partlabel LABEL] DISK
# It refuses a disk of which anything is in use, keeps the partition of the label where it lies, though not its number, and writes a system.
set -euo pipefail

fail() {
	echo "Error: $*" >&2
	exit 1
}
ignition='' label='' disk=''
[ "${1-}" = install ] || fail "unknown command ${1-}"
shift
while (($#)); do
	case $1 in
	--ignition-file) ignition=$2 && shift 2 ;;
	--save-partlabel) label=$2 && shift 2 ;;
	-*) fail "unknown option $1" ;;
	*) disk=$1 && shift ;;
	esac
done
[ -b "$disk" ] || fail "$disk is not a block device"

for node in /sys/class/block/"${disk##*/}"{,/"${disk##*/}"*}; do
	[ -e "$node/dev" ] || continue
	numbers=$(cat "$node/dev")
	for mounts in /proc/[0-9]*/mountinfo; do
		! grep -qs "^[0-9]* [0-9]* $numbers " "$mounts" || fail "found busy partitions: ${node##*/} is mounted"
	done
	[ -z "$(ls "$node/holders" 2>/dev/null)" ] || fail "found busy partitions: ${node##*/} is held by $(ls "$node/holders")"
done
# Partitions of a disk whose name ends in a digit have a p before theirs.
[[ $disk == *[0-9] ]] && part=p || part=''
! cat /sys/block/loop*/loop/backing_file 2>/dev/null | grep -Eqx "$disk($part[0-9]+)?" || fail "found busy partitions: a loop device stands on $disk"
# The kernel's own word: EBUSY where a partition is open for writing or mounted.
for ((i = 0; i < 5; i++)); do
	! blockdev --rereadpt "$disk" || break
	((i < 4)) || fail "reading the partition table of $disk: busy"
	sleep 0.2
done

saved=''
for number in $(sgdisk -p "$disk" | sed -n '/^Number/,$s/^ *\([0-9][0-9]*\) .*/\1/p'); do
	info=$(sgdisk -i "$number" "$disk")
	[ "$(sed -n "s/^Partition name: '\(.*\)'$/\1/p" <<<"$info")" = "$label" ] || continue
	field() { sed -n "s/^$1: \([^ ]*\).*/\1/p" <<<"$info"; }
	saved="$(field 'First sector') $(field 'Last sector') $(field 'Partition GUID code') $(field 'Partition unique GUID')"
done
sgdisk -Z "$disk" >/dev/null 2>&1 || :
sgdisk -o -n 1:0:+1M -t 1:ef02 -c 1:BIOS-BOOT -n 2:0:+4M -t 2:ef00 -c 2:EFI-SYSTEM -n 3:0:+16M -c 3:boot "$disk" >/dev/null
end=0
if [ "$saved" ]; then
	read -r first last code guid <<<"$saved"
	end=$((first - 1))
	sgdisk -n "6:$first:$last" -t "6:$code" -u "6:$guid" -c "6:$label" "$disk" >/dev/null
fi
sgdisk -n "4:0:$end" -c 4:root "$disk" >/dev/null
read -r first last < <(sgdisk -i 4 "$disk" | sed -n 's/^\(First\|Last\) sector: \([0-9]*\).*/\2/p' | xargs)
system=$(mktemp -d)
mkdir "$system/ignition"
[ -z "$ignition" ] || cp "$ignition" "$system/ignition/config.ign"
echo 'written by the installer' >"$system/installed"
mkfs.ext4 -q -F -L root -E "offset=$((first * 512)),nodiscard" -d "$system" "$disk" "$(((last - first + 1) / 2))k"
sync "$disk"
# Where the kernel has read the table by itself there is nothing to add.
partx -a "$disk" 2>/dev/null || partx -u "$disk"
echo 'Install complete.'
