#!/usr/bin/env bash
# Trains on all machines of a Cloud TPU slice: the same command on each, one
# process a machine, which find each other by the TPU's metadata.
#
#   bash scripts/launch/cloud_tpu.sh my-tpu us-central2-b -- \
#     --config cosface.py:ms1mv3_r50 --data.path /mnt/faces --workdir /mnt/runs/a
#
# Before it, once: facejax on every machine (pip install 'facejax[tpu]', with the
# same --worker=all), and a folder that all of them share, for data and work
# folder. Keep the connection, in tmux or the like: a run that cannot print any
# more ends, and the same command goes on from its last checkpoint. To stop and
# save, in another shell:
#
#   bash scripts/launch/cloud_tpu.sh my-tpu us-central2-b --stop
#
# PYTHON=... names another Python on those machines.
set -euo pipefail

if [ $# -lt 3 ] || { [ "$3" != -- ] && [ "$3" != --stop ]; }; then
  echo "usage: cloud_tpu.sh NAME ZONE (-- FLAGS OF facejax.train | --stop)" >&2
  exit 2
fi
name=$1 zone=$2 what=$3
shift 3

if [ "$what" = --stop ]; then
  # The oldest: not its workers. The brackets keep the pattern from itself.
  command="pkill -TERM -o -f '[f]acejax.train'"
else
  # With each word quoted for the shell over there.
  command=$(printf '%q ' "${PYTHON:-python3}" -m facejax.train "$@")
fi
exec gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
  --command "$command"
