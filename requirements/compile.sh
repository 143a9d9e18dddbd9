#!/usr/bin/env bash
# Resolves the lock files. Usage: requirements/compile.sh UV
set -euo pipefail
uv=$(realpath "$1")
cd "$(dirname "$0")"
common=(pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
        --no-emit-index-url --no-emit-find-links)
"$uv" "${common[@]}" base.in -o base.lock
# torch and what only torch brings stay out: `pip install torch==2.13.0` resolves those. So does
# scenedetect's opencv-python, which would lie in the same files as ours without windows.
"$uv" "${common[@]}" dev.in -o dev.lock --constraint base.lock \
  --override <(printf '%s ; sys_platform == "never"\n' torch opencv-python)
# What an image adds to base.lock (launch/docker).
for extra in tpu cuda13; do
  "$uv" "${common[@]}" "$extra.in" -o "$extra.lock" --constraint base.lock
done
# What clusters add for curation (launch/beam), and a machine that starts jobs on Dataflow.
"$uv" "${common[@]}" beam.in -o beam.lock --constraint base.lock --constraint dev.lock
