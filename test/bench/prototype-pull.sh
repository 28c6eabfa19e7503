#!/bin/bash
# What a pull is measured against: the flow of the predecessor's pull scripts, one image after the other.
# Usage: prototype-pull.sh LIST FOLDER
set -euo pipefail

mkdir -p "$2"
cp "$1" "$2/"
cd "$2"
while read -r uri _; do
  name=$(basename "$uri")
  name=${name/:/_}
  skopeo copy -q --all --src-tls-verify=false "docker://$uri" "dir:$name"
  tar czf "$name.tgz" "$name"
  rm -rf "${name:?}"
done <"$(basename "$1")"
