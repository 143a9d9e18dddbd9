"""What the places' files and commands say, and what a place cannot do."""

import shlex

import pytest
import yaml

from launch import policy, supervise
from tests.unit.launch.descriptions import GPU, TPU, rendered, written
from vidjax.errors import UserError


def supervised(words: list[str], monkeypatch) -> dict:
  """How the supervisor takes the words after its name: its settings, and the command."""
  taken = {}

  def take(command, workdir, **more):
    taken.update(more, command=command, workdir=workdir)
    return 0

  monkeypatch.setattr(supervise, "supervise", take)
  supervise.main(words)
  assert taken["command"][1:4] == ["-m", "vidjax.cli", "train"]
  assert f"--workdir={taken['workdir']}" in taken["command"]
  return taken


def jobset_of(launch) -> dict:
  (text,) = launch.files.values()
  return yaml.safe_load(text)


def pod_of(jobset: dict) -> dict:
  (job,) = jobset["spec"]["replicatedJobs"]
  return job["template"]["spec"]["template"]["spec"]


def test_jobset(tmp_path, monkeypatch):
  launch = rendered(written(tmp_path, TPU), "gke")
  assert launch.commands == (("kubectl", "create", "--filename=OUT/run.yaml"),)
  jobset = jobset_of(launch)
  assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  assert jobset["metadata"]["annotations"] == {
    "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
  }
  assert jobset["spec"]["failurePolicy"]["rules"] == [
    {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
  ]
  (job,) = jobset["spec"]["replicatedJobs"]
  assert job["replicas"] == 1
  job = job["template"]["spec"]
  assert job["parallelism"] == job["completions"] == 2 * 2 * 4 // 4, "one pod for four chips"
  pod = pod_of(jobset)
  assert pod["restartPolicy"] == "Never", "needed by podFailurePolicy"
  assert "hostNetwork" not in pod
  (container,) = pod["containers"]
  assert container["command"] == ["python3", "-m", "launch.supervise"]
  taken = supervised(container["args"], monkeypatch)
  assert taken["grace"] < pod["terminationGracePeriodSeconds"]
  assert taken["task"] == "$(SLICE)-$(JOB_COMPLETION_INDEX)"
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  assert "--config.compile_cache=gs://bucket/run/compile_cache" in taken["command"]

  evicted, preempted, failed = job["podFailurePolicy"]["rules"]
  assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
  assert evicted["action"] == preempted["action"] == "Ignore"
  assert preempted["onExitCodes"]["values"] == [policy.PREEMPTED]
  assert failed["action"] == "FailJob"
  assert failed["onExitCodes"]["operator"] == "In"
  assert failed["onExitCodes"]["values"] == sorted(policy.STOP)
  assert job["backoffLimit"] == 0, "all others make the JobSet start again"
  names = {rule["onExitCodes"]["containerName"] for rule in (preempted, failed)}
  assert names == {container["name"]}


def test_a_jobset_of_several_slices_with_all_that_can_be_set(tmp_path):
  table = """
[gke]
context = "c"
namespace = "n"
service_account = "s"
queue = "q"
priority_class = "high"
spot = true
reservation = "r"
max_restarts = 3
node_selector = { "example.com/pool" = "big" }
[xpk]"""
  local = """[overrides]
mesh.replica = 2
checkpoint.local_folder = "/ram/vidjax"
checkpoint.local_every_steps = 10"""
  path = written(
    tmp_path, TPU, ("[xpk]", table), ("[overrides]", local), ("name =", "slices = 2\nname =")
  )
  launch = rendered(path, "gke")
  assert launch.commands == (("kubectl", "--context=c", "create", "--filename=OUT/run.yaml"),)
  assert any("spot nodes" in note for note in launch.notes)
  jobset = jobset_of(launch)
  assert jobset["metadata"]["namespace"] == "n"
  assert jobset["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
  assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 3
  (job,) = jobset["spec"]["replicatedJobs"]
  assert job["replicas"] == 2
  pod = pod_of(jobset)
  assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("s", "high")
  assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
    "cloud.google.com/gke-tpu-topology": "2x2x4",
    "cloud.google.com/gke-spot": "true",
    "cloud.google.com/reservation-name": "r",
    "example.com/pool": "big",
  }
  (container,) = pod["containers"]
  mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
  assert set(mounts) == {"/dev/shm", "/ram/vidjax"}
  volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
  assert volumes == {name: {"medium": "Memory"} for name in mounts.values()}
  environment = {one["name"]: one.get("value") for one in container["env"]}
  assert "data_parallel_all_reduce" in environment["LIBTPU_INIT_ARGS"]


def test_a_machine_of_eight_chips_is_asked_for_by_name(tmp_path):
  path = written(tmp_path, TPU, ("v5p:2x2x4", "v6e:2x4"))
  pod = pod_of(jobset_of(rendered(path, "gke")))
  assert pod["nodeSelector"]["node.kubernetes.io/instance-type"] == "ct6e-standard-8t"
  assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 8}


def test_kubernetes_replaces_nothing_in_what_is_ours(tmp_path):
  path = written(tmp_path, TPU, ("[overrides]", '[env]\nA = "$(SLICE)"\n[overrides]'))
  (container,) = pod_of(jobset_of(rendered(path, "gke", "data.template=$(SLICE) $$ $x")))[
    "containers"
  ]
  # In Kubernetes `$$` is `$`, and `$(NAME)` a variable.
  assert "--config.data.template=$$(SLICE) $$$$ $$x" in container["args"]
  assert {"name": "A", "value": "$$(SLICE)"} in container["env"]


def test_xpk(tmp_path, monkeypatch):
  path = written(tmp_path, TPU, ("name =", "slices = 2\nname ="))
  launch = rendered(path, "xpk", "mesh.replica=2", "data.template={caption} it's $HOME")
  (command,) = launch.commands
  assert command[:3] == ("xpk", "workload", "create")
  flags = dict(word.removeprefix("--").split("=", 1) for word in command[3:])
  assert flags["tpu-type"] == "v5p-2x2x4"
  assert flags["num-slices"] == "2"
  assert flags["restart-on-exit-codes"] == ",".join(map(str, sorted(policy.RESTART)))
  words = shlex.split(flags["command"].replace("$$", "$"))
  assert words[0] == "env"
  assert words[1].startswith("LIBTPU_INIT_ARGS=--xla_tpu_")
  assert words[2:5] == ["python3", "-m", "launch.supervise"]
  taken = supervised(words[5:], monkeypatch)
  assert taken["task"] == "${MEGASCALE_SLICE_ID:-0}-${JOB_COMPLETION_INDEX:-0}"
  assert "--config.data.template={caption} it's $HOME" in taken["command"]
  assert int(flags["termination-grace-period-seconds"]) > taken["grace"]


@pytest.mark.parametrize("slices", [1, 3])
def test_a_queued_resource(tmp_path, slices):
  path = written(
    tmp_path, TPU, ("[tpu_vm]", "[tpu_vm]\nspot = true"), ("name =", f"slices = {slices}\nname =")
  )
  (command,) = rendered(path, "tpu_vm").commands
  assert command[:5] == ("gcloud", "compute", "tpus", "queued-resources", "create")
  assert {"--type=v5p", "--topology=2x2x4", "--runtime-version=v2-alpha-tpuv5"} <= set(command)
  assert "--spot" in command
  assert ("--node-id=run" in command) == (slices == 1)
  assert ({"--node-count=3", "--node-prefix=run"} <= set(command)) == (slices == 3)
  assert command[-1].startswith("--metadata-from-file=startup-script=OUT/run_start.sh,")


@pytest.mark.parametrize(
  ("place", "text", "change", "said"),
  [
    ("gke", GPU, ("", ""), "--on=gke needs the key 'topology'"),
    ("slurm", TPU, ("", ""), "--on=slurm needs the key 'gpus'"),
    ("xpk", TPU, ('cluster = "c"\n', ""), "--on=xpk needs the key 'xpk.cluster'"),
    ("tpu_vm", TPU, ('image = "us-docker.pkg.dev/p/r/vidjax:1.0"', ""), "needs the key 'image'"),
    ("tpu_vm", TPU, ("v5p:2x2x4", "tpu7x:2x2x4"), "offers no tpu7x; use --on=gke"),
    ("tpu_vm", TPU, ("[tpu_vm]", "[tpu_vm]\nspot = true\nreserved = true"), "set one of them"),
    ("xpk", TPU, ("[xpk]", '[xpk]\npriority = "top"'), "'top' is none of xpk's"),
    ("local", TPU, ("", ""), "v5p:2x2x4 with slices = 1 are 4 machines, and --on=local is one"),
    ("slurm", GPU, ('container = "pyxis"', ""), "'slurm.container'"),
    ("slurm", GPU, ("[slurm]", '[slurm]\nvenv = "/v"'), "and not both"),
  ],
)
def test_what_a_place_cannot_do(tmp_path, place, text, change, said):
  with pytest.raises(UserError) as error:
    rendered(written(tmp_path, text, change), place)
  assert said in str(error.value)


def test_gke_joins_slices_of_several_hosts_only(tmp_path):
  path = written(tmp_path, TPU, ("v5p:2x2x4", "v5p:2x2x1"), ("name =", "slices = 2\nname ="))
  with pytest.raises(UserError, match="a single host"):
    rendered(path, "gke")


@pytest.mark.parametrize(
  ("image", "named"),
  [
    ("ghcr.io/o/vidjax:1", "ghcr.io#o/vidjax:1"),
    ("o/vidjax:1", "o/vidjax:1"),
    ("localhost:5000/vidjax:1", "localhost:5000#vidjax:1"),
    ("ghcr.io#o/vidjax:1", "ghcr.io#o/vidjax:1"),
    ("/shared/vidjax.sqsh", "/shared/vidjax.sqsh"),
  ],
)
def test_images_as_enroot_names_them(tmp_path, image, named):
  path = written(tmp_path, GPU, ("ghcr.io/o/vidjax:1.0", image))
  (script,) = rendered(path, "slurm").files.values()
  assert f"--container-image={named}" in script
