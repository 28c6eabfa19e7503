#!/usr/bin/sh
# Pulls only what is missing, and says so.
podman image exists "$1" && exit 0
echo "pulled $1" >>/run/agent-pulls
timeout 20 podman pull "$1"
