#!/usr/bin/env bash
# Trains on this machine, and starts again when that helps:
#
#   launch/local.sh WORKDIR --config=configs/svd/image.py:tiny [--config.key=value ...]
#
# Ctrl-C saves and ends; the same command goes on from there.
set -euo pipefail

workdir=${1:?"usage: launch/local.sh WORKDIR --config=FILE [--config.key=value ...]"}
shift
python=${PYTHON:-python3}

exec "$python" -m launch.supervise --workdir="$workdir" -- \
  "$python" -m vidjax.cli train --workdir="$workdir" "$@"
