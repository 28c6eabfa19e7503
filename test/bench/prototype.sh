#!/bin/bash
# What the agent is measured against: the flow of its predecessor, one image after the other or several at a time.
# Usage: prototype.sh BUNDLE LIST WORK GRAPHROOT RUNROOT IMAGES_AT_A_TIME
set -euo pipefail
export BUNDLE=$1 WORK=$3 GRAPHROOT=$4 RUNROOT=$5

load() {
  uri=$1
  name=$(basename "$uri")
  name=${name/:/_}
  tar xzf "$BUNDLE/$name.tgz" -C "$WORK"
  skopeo copy -q "dir:$WORK/$name" "containers-storage:[overlay@$GRAPHROOT+$RUNROOT]$uri"
  rm -rf "${WORK:?}/$name"
}
export -f load

mkdir -p "$WORK"
xargs -P "$6" -n 1 bash -euo pipefail -c 'load "$0"' <"$BUNDLE/$2"
