#!/usr/bin/env bash
# Curates on a Flink cluster; videos and results are in buckets, or on storage that all nodes share:
#
#   MASTER=jobmanager:8081 PARALLELISM=64 launch/beam/flink.sh VIDEOS OUT [--config=FILE ...]
#
# Beside each task manager runs a pool of workers, a container of the image of the Dockerfile here
# with the argument `--worker_pool`, which listens at POOL. Where this runs, requirements/beam.lock
# is installed beside base.lock (the extra `beam`: access to buckets), and Java and Flink's job server
# are needed: Beam fetches the jar, or JAR names it. The same command goes on where an earlier one
# was stopped. DRY_RUN=1 shows it.
set -euo pipefail

usage="usage: MASTER=HOST:PORT launch/beam/flink.sh VIDEOS OUT [--config=FILE ...]"
videos=${1:?"$usage"}
out=${2:?"$usage"}
shift 2
command=(
  "${PYTHON:-python3}" -m vidjax.cli curate --videos="$videos" --out="$out"
  --runner=FlinkRunner
  --flink_master="${MASTER:?"$usage"}"
  --parallelism="${PARALLELISM:-16}"
  --environment_type=EXTERNAL
  --environment_config="${POOL:-localhost:50000}"
  ${JAR:+--flink_job_server_jar="$JAR"}
  "$@"
)
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
