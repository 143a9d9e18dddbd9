"""TPU VMs of a queued resource: every machine runs the container when it starts."""

import re

from launch import templating
from launch.places.form import Launch, needs
from launch.training import Training, shown
from vidjax.errors import UserError

# Registries that take Google's credentials.
_GOOGLE = re.compile(r"(?:[\w-]+\.)?(?:gcr\.io|pkg\.dev)|[\w-]+-docker\.pkg\.dev")


def render(training: Training, folder: str) -> Launch:
  """The request, and the scripts that the machines run when they start and go down.

  Args:
    training: what runs.
    folder: where the files will lie.

  Raises:
    UserError: the description lacks something, or these TPUs are not to be had this way.
  """
  job, vm = training.job, training.job.tpu_vm
  needs(
    "tpu_vm",
    topology=job.topology,
    image=job.image,
    tpu_vm__project=vm.project,
    tpu_vm__zone=vm.zone,
  )
  tpus = job.tpus
  assert tpus is not None
  if not tpus.generation.runtime:
    raise UserError(
      f"topology {job.topology}: the TPU API offers no {tpus.topology.chip.name}; use --on=gke"
    )
  if vm.spot and vm.reserved:
    raise UserError("keys 'tpu_vm.spot' and 'tpu_vm.reserved': set one of them")
  if "," in folder:
    raise UserError(f"--out={folder}: gcloud takes a comma in a path for the end of it")
  where = (f"--project={vm.project}", f"--zone={vm.zone}")
  queued = ("gcloud", "compute", "tpus", "queued-resources")
  delete = (*queued, "delete", job.name, *where, "--force", "--quiet", "--async")
  start_name, stop_name = f"{job.name}_start.sh", f"{job.name}_stop.sh"
  registry = job.image.split("/")[0]
  started = templating.fill(
    "tpu_vm.sh.j2",
    job=job,
    tpu_vm=vm,
    registry=registry if _GOOGLE.fullmatch(registry) else "",
    environment=training.environment,
    words=training.words,
    patience=training.patience,
    local_folder=_outside_shm(training.config.checkpoint.local_folder),
    delete=[shown(delete)],
  )
  optional = {
    "network": vm.network,
    "subnetwork": vm.subnetwork,
    "service-account": vm.service_account,
  }
  if len(tpus.topology.shape) == 3:  # of one size there may be several shapes
    what = (f"--type={tpus.generation.api}", f"--topology={tpus.shape}")
  else:
    what = (f"--accelerator-type={tpus.accelerator_type}",)
  if job.slices > 1:
    nodes = (f"--node-count={job.slices}", f"--node-prefix={job.name}")
    first = f"{job.name}-0"
  else:
    nodes, first = (f"--node-id={job.name}",), job.name
  create = (
    *(*queued, "create", job.name),
    *where,
    *what,
    f"--runtime-version={vm.runtime_version or tpus.generation.runtime}",
    *nodes,
    *(["--spot"] if vm.spot else []),
    *(["--reserved"] if vm.reserved else []),
    *(["--internal-ips"] if vm.internal_ips else []),
    *(f"--{flag}={value}" for flag, value in optional.items() if value),
    "--scopes=cloud-platform",
    "--metadata-from-file="
    f"startup-script={folder}/{start_name},shutdown-script={folder}/{stop_name}",
  )
  ssh = ("gcloud", "compute", "tpus", "tpu-vm", "ssh", first, *where)
  return Launch(
    files={
      start_name: started,
      stop_name: templating.fill("tpu_vm_stop.sh.j2", patience=training.patience),
    },
    commands=(create,),
    watch=(
      shown([*queued, "describe", job.name, *where]),
      shown([*ssh, "--worker=0", "--command=sudo docker logs --follow vidjax"]),
      shown(["vidjax", "goodput", f"--workdir={job.workdir}"]),
    ),
    stop=(
      shown(
        [*ssh, "--worker=all", f"--command=sudo docker stop --time={training.patience} vidjax"]
      ),
      shown(delete),
    ),
    resume=(
      "after a reboot it goes on by itself; after a preemption (state SUSPENDED) or a stop, delete"
      " the queued resource and start it again: it goes on from the workdir"
    ),
    notes=(
      ()
      if vm.delete_when_done
      else ("the TPUs stay, and cost, when the run is done: stop it, or set delete_when_done",)
    ),
  )


def _outside_shm(folder: str) -> str:
  """`folder`, unless the machine's /dev/shm, which the container has anyway, holds it."""
  return "" if f"{folder}/".startswith("/dev/shm/") else folder
