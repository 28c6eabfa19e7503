#!/usr/bin/sh
# An image whose name podman does not list is taken for damaged and removed.
IMAGE=$(echo "$1" | sed 's/[@:].*//')
podman images | grep "$IMAGE" || podman rmi --force "$1" || true
