#!/bin/busybox sh
# First program of a virtual machine: lays out the root as test/boot/machine-root.ts does for machines without a kernel of their own, then
# starts systemd. On the kernel's command line:
#   vm.upper=ram | PARTITION   where all but /usr lies: in memory, or on the root partition of an installed disk
#   vm.live=DISK               an archive of tar(1) on this disk, of which the memory is filled
#   vm.flakey=1                the root partition is reached through a device-mapper device `disk` whose writes can be dropped
PATH=/bin
/bin/busybox --install -s /bin
fail() {
	echo "init: $1 failed" >/dev/console
	poweroff -f
}
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*; do insmod "$module" || fail "insmod $module"; done
upper=ram live= flakey=
for word in $(cat /proc/cmdline); do
	case $word in
	vm.upper=*) upper=${word#*=} ;;
	vm.live=*) live=${word#*=} ;;
	vm.flakey=*) flakey=${word#*=} ;;
	esac
done
mount -t ext4 -o ro /dev/vda /lower || fail 'mount /dev/vda'
mount -t tmpfs -o mode=0755,size=75% ram /ram
if [ "$upper" = ram ]; then
	rw=/ram/rw variable=/ram/var
	[ -z "$live" ] || tar -xpf "$live" -C /ram || fail "tar -x of $live"
else
	rw=/disk/deploy variable=/disk/var
	if [ -n "$flakey" ]; then
		echo "0 $(blockdev --getsz "$upper") flakey $upper 0 3600 0" | DM_DISABLE_UDEV=1 dmsetup create disk || fail dmsetup
		upper=/dev/mapper/disk
	fi
	mount -t ext4 "$upper" /disk || mount -t xfs "$upper" /disk || fail "mount $upper"
fi
mkdir -p "$rw/upper" "$rw/work" "$variable"
mount -t overlay -o "lowerdir=/lower,upperdir=$rw/upper,workdir=$rw/work" root /sysroot || fail overlay
mount --bind /lower/usr /sysroot/usr
[ -e "$variable/.updated" ] || cp -a /lower/var/. "$variable/"
mount --bind "$variable" /sysroot/var
for place in dev proc sys; do mount --move "/$place" "/sysroot/$place"; done
exec switch_root /sysroot /sbin/init
