"""xpk: a JobSet of its own making, on clusters that it has set up."""

from launch import policy, templating
from launch.places.form import Launch, needs
from launch.training import Training, shown
from vidjax.errors import UserError

_PRIORITIES = ("very-low", "low", "medium", "high", "very-high")
# Expanded by the shell that xpk starts in the container.
_TASK = '--task="${MEGASCALE_SLICE_ID:-0}-${JOB_COMPLETION_INDEX:-0}"'


def render(training: Training, folder: str) -> Launch:
  """The command that creates the workload; there are no files.

  Raises:
    UserError: the description lacks something.
  """
  job, xpk = training.job, training.job.xpk
  needs(
    "xpk",
    topology=job.topology,
    image=job.image,
    xpk__cluster=xpk.cluster,
    xpk__project=xpk.project,
    xpk__zone=xpk.zone,
  )
  assert job.tpus is not None
  if xpk.priority not in _PRIORITIES:
    raise UserError(
      f"key 'xpk.priority': {xpk.priority!r} is none of xpk's: {', '.join(_PRIORITIES)}"
    )
  variables = [f"{name}={value}" for name, value in training.environment.items()]
  before = shown(["env", *variables, "python3", "-m", "launch.supervise"])
  # xpk writes the command into the text of a pod, where Kubernetes replaces $(NAME).
  escaped = [templating.for_kubernetes(part) for part in (before, shown(training.words))]
  where = (f"--cluster={xpk.cluster}", f"--project={xpk.project}", f"--zone={xpk.zone}")
  create = (
    *("xpk", "workload", "create", f"--workload={job.name}"),
    *where,
    f"--tpu-type={job.tpus.xpk_type}",
    f"--num-slices={job.slices}",
    f"--docker-image={job.image}",
    f"--priority={xpk.priority}",
    f"--max-restarts={xpk.max_restarts}",
    # Beside 127 to 255, after which xpk restarts anyway: codes that a new try may change.
    f"--restart-on-exit-codes={','.join(map(str, sorted(policy.RESTART)))}",
    f"--termination-grace-period-seconds={training.patience}",
    f"--command={escaped[0]} {_TASK} {escaped[1]}",
  )
  notes = ()
  if training.config.checkpoint.local_folder:
    notes = ("pods of xpk have no RAM disk: checkpoint.local_folder is on the disk of the pod",)
  return Launch(
    files={},
    commands=(create,),
    watch=(
      shown(["xpk", "workload", "list", *where, f"--filter-by-job={job.name}"]),
      shown(["vidjax", "goodput", f"--workdir={job.workdir}"]),
    ),
    stop=(shown(["xpk", "workload", "delete", f"--workload={job.name}", *where]),),
    resume="stop it, if it is still listed, and start it again: it goes on from the workdir",
    notes=notes,
  )
