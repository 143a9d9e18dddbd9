#!/usr/bin/env bash
# Curates on Google Cloud Dataflow; videos and results are in buckets:
#
#   PROJECT=p REGION=us-central1 IMAGE=IMAGE TEMP=gs://BUCKET/temp \
#     launch/beam/dataflow.sh gs://BUCKET/videos gs://BUCKET/clips [--config=FILE ...]
#
# Where this runs, requirements/beam.lock is installed beside base.lock (the extra `beam`): Dataflow's
# client, and access to buckets. IMAGE has both, too: it is built of the Dockerfile beside this
# script and pushed to where Dataflow can pull it. One process for each machine: files are worked on in
# processes of their own anyway, and CLIP's weights are in memory once. The same command goes on where
# an earlier one was stopped. DRY_RUN=1 shows it.
set -euo pipefail

usage="usage: PROJECT= REGION= IMAGE= TEMP= launch/beam/dataflow.sh VIDEOS OUT [--config=FILE ...]"
videos=${1:?"$usage"}
out=${2:?"$usage"}
shift 2
cores=${CORES:-16}
command=(
  "${PYTHON:-python3}" -m vidjax.cli curate --videos="$videos" --out="$out"
  --runner=DataflowRunner
  --project="${PROJECT:?"$usage"}"
  --region="${REGION:?"$usage"}"
  --temp_location="${TEMP:?"$usage"}"
  --sdk_container_image="${IMAGE:?"$usage"}"
  --sdk_location=container
  --machine_type="${MACHINE:-n2-standard-$cores}"
  --max_num_workers="${MAX_WORKERS:-100}"
  --number_of_worker_harness_threads="$cores"
  --experiments=no_use_multiple_sdk_containers
  --disk_size_gb="${DISK_GB:-100}"
  "$@"
)
if [ -n "${DRY_RUN:-}" ]; then
  printf '%q ' "${command[@]}"
  echo
else
  exec "${command[@]}"
fi
