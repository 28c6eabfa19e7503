#!/bin/sh
# Usage: run-alone.sh NAME PROGRAM [ARGUMENT...]
# Starts a program of the tests in a mount namespace and a process namespace of its own, so that mounts and machines end with it however it ends;
# one of that name at a time. A shell is the first process there: Node does not wait for the orphans that a first process inherits.
name=$1
shift
lock=${TMPDIR:-/tmp}/$name.lock
exec 9>>"$lock"
flock --nonblock 9 || {
	echo "$1: another run of $name is at work; it holds $lock" >&2
	exit 75
}
exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
	sh -c 'node "$@"; exit $?' "$name" "$@"
