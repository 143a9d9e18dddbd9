"""Google Kubernetes Engine: a JobSet, one Job for each slice, one pod for each host."""

from launch import policy, templating
from launch.places.form import Launch, needs
from launch.training import Training, shown
from vidjax.errors import UserError

_SHM = "/dev/shm"


def render(training: Training, folder: str) -> Launch:
  """The JobSet and how it is created.

  Args:
    training: what runs.
    folder: where the files will lie.

  Raises:
    UserError: the description lacks something.
  """
  job, gke = training.job, training.job.gke
  needs("gke", topology=job.topology, image=job.image)
  assert job.tpus is not None
  if job.slices > 1 and job.tpus.hosts_per_slice == 1:
    raise UserError(
      f"topology {job.topology}: GKE joins slices of several hosts only, and this one has a single"
      " host; take a larger topology"
    )
  local = training.config.checkpoint.local_folder
  apart = [local] if local and not f"{local}/".startswith(f"{_SHM}/") else []
  name = f"{job.name}.yaml"
  content = templating.fill(
    "jobset.yaml.j2",
    job=job,
    gke=gke,
    tpus=job.tpus,
    environment=training.environment,
    words=training.words,
    preempted=policy.PREEMPTED,
    stop_codes=sorted(policy.STOP),
    ram_disks=[_SHM, *apart],
    local_folder=local,
  )
  kubectl = ("kubectl", *([f"--context={gke.context}"] if gke.context else []))
  there = f"--namespace={gke.namespace}"
  jobset = f"jobset/{job.name}"
  selector = f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}"
  first = f"{selector},jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
  notes = ()
  if gke.spot:
    notes = (
      "spot nodes leave a pod about 25 s: what a save does not finish by then is lost, back to the"
      " newest checkpoint",
    )
  return Launch(
    files={name: content},
    # Not `apply`: of a JobSet that runs already nothing may change.
    commands=((*kubectl, "create", f"--filename={folder}/{name}"),),
    watch=(
      shown([*kubectl, "get", there, jobset]),
      shown([*kubectl, "get", there, "pods", selector]),
      shown([*kubectl, "logs", there, "--follow", first]),
      shown(["vidjax", "goodput", f"--workdir={job.workdir}"]),
    ),
    stop=(shown([*kubectl, "delete", there, jobset]),),
    resume="stop it, if it is still listed, and start it again: it goes on from the workdir",
    notes=notes,
  )
