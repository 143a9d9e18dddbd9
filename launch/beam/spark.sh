#!/usr/bin/env bash
# Curates on a Spark cluster; videos and results are in buckets, or on storage that all nodes share:
#
#   MASTER=spark://HOST:7077 launch/beam/spark.sh VIDEOS OUT [--config=FILE ...]
#
# Beside each executor runs a pool of workers, a container of the image of the Dockerfile here with
# the argument `--worker_pool`, which listens at POOL. Where this runs, requirements/beam.lock is
# installed beside base.lock (the extra `beam`: access to buckets), and Java and Spark's job server
# are needed: Beam fetches the jar, or JAR names it. The same command goes on where an earlier one
# was stopped. DRY_RUN=1 shows it.
set -euo pipefail

usage="usage: MASTER=spark://HOST:PORT launch/beam/spark.sh VIDEOS OUT [--config=FILE ...]"
videos=${1:?"$usage"}
out=${2:?"$usage"}
shift 2
command=(
  "${PYTHON:-python3}" -m vidjax.cli curate --videos="$videos" --out="$out"
  --runner=SparkRunner
  --spark_master_url="${MASTER:?"$usage"}"
  --environment_type=EXTERNAL
  --environment_config="${POOL:-localhost:50000}"
  ${JAR:+--spark_job_server_jar="$JAR"}
  "$@"
)
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
