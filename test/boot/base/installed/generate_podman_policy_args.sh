#!/bin/sh
: >/tmp/podman_policy_args
