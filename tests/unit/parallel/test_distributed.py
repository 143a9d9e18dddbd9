"""How processes find each other and share batches; several real ones train in tests/e2e."""

import dataclasses

import jax
import numpy as np
import pytest

from vidjax.parallel import distributed

NONE = dict.fromkeys(distributed.ENVIRONMENT)
GIVEN = {"coordinator": "host:1234", "process_index": 1, "process_count": 2}


@dataclasses.dataclass(frozen=True)
class Device:
  """What `batch_share` reads of a device."""

  process_index: int


def share(shape, processes):
  """Shares of all processes; `processes` are the devices' in the mesh's order."""
  devices = np.array([Device(process) for process in processes], object).reshape(shape)
  axes = dict(zip(("replica", "fsdp", "context", "tensor"), shape, strict=True))
  mesh = type("FakeMesh", (), {"devices": devices, "shape": axes})
  return [distributed.batch_share(mesh, process) for process in range(max(processes) + 1)]


def test_each_process_reads_what_its_devices_hold():
  assert share((1, 8, 1, 1), [0, 0, 0, 0, 1, 1, 1, 1]) == [(0, 2), (1, 2)]
  assert share((2, 4, 1, 1), [0, 0, 1, 1, 2, 2, 3, 3]) == [(0, 4), (1, 4), (2, 4), (3, 4)]
  assert share((1, 1, 1, 1), [0]) == [(0, 1)]


def test_hosts_that_hold_the_same_rows_read_the_same():
  assert share((1, 1, 4, 1), [0, 0, 1, 1]) == [(0, 1), (0, 1)]
  assert share((1, 2, 2, 2), [0, 0, 1, 1, 2, 2, 3, 3]) == [(0, 2), (0, 2), (1, 2), (1, 2)]
  assert share((1, 2, 4, 1), [0, 0, 0, 0, 1, 1, 1, 1]) == [(0, 2), (1, 2)]


def test_rows_of_a_host_need_not_lie_together():
  """As on a v5p:2x2x2, whose axes follow the links between chips."""
  assert share((1, 8, 1, 1), [0, 1, 0, 1, 0, 1, 0, 1]) == [(0, 2), (1, 2)]
  assert share((1, 8, 1, 1), [1, 1, 0, 0, 0, 0, 1, 1]) == [(1, 2), (0, 2)]


@pytest.mark.parametrize(
  ("shape", "processes"),
  [
    ((1, 2, 3, 1), [0, 0, 1, 1, 2, 2]),  # the second host has part of both rows
    ((1, 4, 1, 1), [0, 0, 0, 1]),
  ],
)
def test_hosts_that_cannot_share_rows_out_are_refused(shape, processes):
  with pytest.raises(ValueError, match=r"mesh\.context=.*divides the devices of a host"):
    share(shape, processes)


def test_place_comes_from_flags_or_environment():
  place = distributed.Place("host:1234", 1, 2)
  environ = {distributed.ENVIRONMENT[name]: str(value) for name, value in GIVEN.items()}
  assert distributed.place_of(NONE, {}) is None
  assert distributed.place_of(GIVEN, {}) == place
  assert distributed.place_of(NONE, environ) == place
  first = environ | {"VIDJAX_PROCESS_INDEX": "0"}
  assert distributed.place_of(NONE | {"process_index": 1}, first) == place, "flags come first"
  assert distributed.place_of(NONE | {"process_index": 0}, environ).index == 0


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"process_count": None}, r"--process_count \(or VIDJAX_PROCESS_COUNT\) missing"),
    ({"coordinator": None, "process_index": None}, "--coordinator .* and --process_index .* miss"),
    ({"coordinator": "host"}, "--coordinator=host: write HOST:PORT"),
    ({"coordinator": ":80"}, "--coordinator=:80: write HOST:PORT"),
    ({"process_index": 2}, "--process_index=2: with --process_count=2 it is 0 to 1"),
    ({"process_index": -1}, "--process_index=-1 .*number, 0 or more"),
    ({"process_count": 0}, "--process_index=1: with --process_count=0"),
  ],
)
def test_impossible_places_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    distributed.place_of(GIVEN | given, {})


SLURM = {
  "SLURM_JOB_ID": "7",
  "SLURM_STEP_NODELIST": "node[001-004]",
  "SLURM_NTASKS": "4",
  "SLURM_PROCID": "2",
  "SLURM_LOCALID": "0",
}


@pytest.fixture
def clean_environment(monkeypatch):
  for name in ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX", "OMPI_MCA_orte_hnp_uri", *SLURM):
    monkeypatch.delenv(name, raising=False)
  return monkeypatch


def test_clusters_are_recognized_only_where_they_are_of_several_processes(clean_environment):
  """Also says when a new JAX has other names for what it detects."""
  assert distributed._cluster() is None
  for name, value in SLURM.items():
    clean_environment.setenv(name, value)
  assert distributed._cluster().name == "slurm"
  clean_environment.setenv("SLURM_NTASKS", "1")
  assert distributed._cluster() is None


def test_a_pod_that_is_no_part_of_a_job_trains_alone(clean_environment):
  clean_environment.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
  assert distributed._cluster() is None


@pytest.mark.parametrize(
  ("error", "is_lost"),
  [
    (jax.errors.JaxRuntimeError("UNAVAILABLE: connection reset"), True),
    (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
    (OSError(5, "Input/output error"), False),
    (ValueError("a shape"), False),
  ],
)
def test_a_lost_peer_is_told_from_other_errors(error, is_lost, monkeypatch):
  assert not distributed.is_peer_lost(error)  # there is none
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  assert distributed.is_peer_lost(error) == is_lost


def test_one_process_agrees_with_itself():
  mesh = jax.make_mesh((8,), ("fsdp",))
  largest = distributed.Largest(mesh)
  assert [largest(0), largest(15), largest(2)] == [0, 15, 2]
  assert distributed.from_first(7) == 7
  distributed.check_same("anything", "text", "nothing to do")
  assert distributed.is_first()
