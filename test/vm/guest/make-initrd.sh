#!/bin/sh
# Runs in the root of the virtual machine: writes the initial RAM disk with our init, busybox, and what of the kernel's modules that init needs.
# Source: Linux, Documentation/filesystems/ramfs-rootfs-initramfs.rst.
set -eu
init=$1 to=$2
kernel=$(ls /usr/lib/modules)
top=$(mktemp -d)
mkdir -p "$top/bin" "$top/modules" "$top/proc" "$top/sys" "$top/dev" "$top/lower" "$top/disk" "$top/ram" "$top/sysroot"
cp /usr/bin/busybox "$top/bin/busybox"
cp "$init" "$top/init"
chmod 755 "$top/init"
number=100
for module in virtio_pci virtio_blk virtio_console ext4 xfs overlay dm-mod dm-flakey; do
	modprobe --set-version "$kernel" --show-depends --ignore-install "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p' >"$top/needs"
	while read -r file; do
		name=$(basename "$file")
		set -- "$top/modules/"*-"${name%.xz}"
		[ ! -e "$1" ] || continue
		number=$((number + 1))
		case $name in
		*.xz) xz -dc "$file" >"$top/modules/$number-${name%.xz}" ;;
		*) cp "$file" "$top/modules/$number-$name" ;;
		esac
	done <"$top/needs"
done
rm "$top/needs"
cp /usr/sbin/dmsetup "$top/bin/dmsetup"
for file in $(ldd /usr/sbin/dmsetup | grep -o '/[^ ]*'); do
	mkdir -p "$top$(dirname "$file")"
	cp -L "$file" "$top$file"
done
(cd "$top" && find . | cpio --quiet -o -H newc) >"$to"
rm -r "$top"
