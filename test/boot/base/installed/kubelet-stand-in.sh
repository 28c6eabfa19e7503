#!/bin/bash
# Starts one container of each image that a node needs, and records which of them answered.
set -uo pipefail
: >/run/kubelet-ran
while read -r image; do
	name=$(timeout 60 /usr/local/bin/crio-stand-in run "$image" cat /etc/prestage-image) && echo "$image $name" >>/run/kubelet-ran
done </etc/kubelet-images
