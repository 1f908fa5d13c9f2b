#!/bin/sh
# Install Debian's Slurm for the tests, where there is no Slurm and root may install one. Without
# either the tests are skipped, and say why; so whatever stands in the way here is no failure.
set -u
if command -v squeue >/dev/null && squeue >/dev/null 2>&1; then
    exit 0  # a cluster, which is used and not touched
fi
if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-slurm: no Slurm here, and only root on a Debian can install one" >&2
    exit 0
fi
echo "test-slurm: installing slurmctld, slurmd and munge"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >/dev/null 2>&1
apt-get install -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null 2>&1 ||
    echo "test-slurm: apt-get could not install Slurm" >&2
exit 0
