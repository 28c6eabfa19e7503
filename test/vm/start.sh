#!/bin/sh
# Starts the tests with virtual machines in a mount namespace and a process namespace of their own, so that mounts and machines end with them
# however they end; one run at a time. A shell is the first process there: Node does not wait for the orphans that a first process inherits.
lock=${TMPDIR:-/tmp}/virtual-machines.lock
exec flock --nonblock --conflict-exit-code 75 "$lock" \
	unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
	sh -c 'node test/vm/vm.ts "$@"; exit $?' vm "$@"
