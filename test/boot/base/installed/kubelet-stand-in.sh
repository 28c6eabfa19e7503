#!/bin/bash
# Starts one container of each image that a node needs, and records which of them answered. As the kubelet does, it tries again where an image
# cannot be pulled; that, too, is recorded.
set -uo pipefail
: >/run/kubelet-ran
while read -r image; do
	until name=$(timeout 60 /usr/local/bin/crio-stand-in run "$image" cat /etc/prestage-image); do
		echo "$image" >>/run/retries
		sleep 1
	done
	echo "$image $name" >>/run/kubelet-ran
done </etc/kubelet-images
