#!/bin/bash
# What CRI-O does with the images of a node, by podman. Source: cri-o, cmd/crio/wipe.go and internal/lib/container_server.go.
set -euo pipefail
state=/var/lib/crio

stores=()
for option in $(cat /etc/crio/crio.conf.d/* 2>/dev/null | grep -o 'additionalimagestore=[^"]*' || :); do
	[ -d "${option#*=}" ] || { echo "can't stat imageStore dir ${option#*=}" >&2 && exit 1; }
	stores+=(--storage-opt "$option")
done

case $1 in
wipe)
	# With containers that run it cannot unmount the storage, and fails.
	[ -z "$(podman ps -q)" ] || { echo 'a container is running' >&2 && exit 1; }
	# After an unclean stop everything in storage goes.
	if [ -e $state/clean.shutdown.supported ] && [ ! -e $state/clean.shutdown ]; then
		echo 'unclean shutdown: wiping storage'
		umount -R /var/lib/containers/storage/overlay 2>/dev/null || :
		rm -rf /var/lib/containers/storage
	fi
	;;
start)
	mkdir -p $state
	touch $state/clean.shutdown.supported
	rm -f $state/clean.shutdown
	sync $state
	;;
stop)
	touch $state/clean.shutdown
	sync $state
	;;
run)
	# As the kubelet asks for it: IfNotPresent.
	exec podman "${stores[@]}" run --rm --net=host "${@:2}"
	;;
esac
