"""Traces: when they are asked for, what is in them, and that nothing about them ends a run."""

import contextlib
import logging
import os
import signal

import jax
import jax.numpy as jnp
import object_store
import pytest

from vidjax import storage
from vidjax.config import ProfileConfig
from vidjax.observe import profiler as profilers
from vidjax.observe.profiler import Profiler


@jax.jit
def named_by_the_test(x):
  return jnp.sin(x) @ x


@pytest.fixture(autouse=True)
def _traces_end():
  yield
  with contextlib.suppress(RuntimeError):
    jax.profiler.stop_trace()


def run(root, config, steps, at=None):
  """A loop of small steps; `at[step]` is called in it. Returns the folders of traces, asides."""
  asides = []

  @contextlib.contextmanager
  def aside():
    asides.append(current[0])
    yield

  current, x = [0], jnp.ones((8, 8))
  with Profiler(config, storage.Path(root), aside) as profiler:
    for step in range(1, steps + 1):
      current[0] = step
      if at and step in at:
        at[step]()
      profiler.before(step)
      with jax.profiler.StepTraceAnnotation("step", step_num=step):
        x = named_by_the_test(x).block_until_ready()
      profiler.after(step)
  return traced(root), asides


def traced(root):
  """Step in a trace's name -> numbers of the steps in it, by the trace itself."""
  found = {}
  folder = storage.Path(root) / profilers.FOLDER
  if not folder.is_dir():
    return found
  for file in storage.list_files(folder):
    if not file.name.endswith(".xplane.pb"):
      continue
    data = jax.profiler.ProfileData.from_serialized_xspace(storage.read_bytes(file))
    events = [event for plane in data.planes for line in plane.lines for event in line.events]
    steps = {dict(event.stats)["step_num"] for event in events if event.name == "step"}
    assert any("named_by_the_test" in event.name for event in events), "the device is not in it"
    found[int(file.relative_to(folder).parts[0][:8])] = sorted(steps)
  return found


def test_listed_steps(tmp_path):
  found, asides = run(tmp_path, ProfileConfig(at_steps=(2, 7), num_steps=2), 10)
  assert found == {2: [2, 3], 7: [7, 8]}
  assert asides == [2, 3, 7, 8]


def test_no_trace_unless_asked_for(tmp_path):
  assert run(tmp_path, ProfileConfig(), 3) == ({}, [])


def test_signal(tmp_path):
  before = signal.getsignal(signal.SIGUSR1)
  found, _ = run(tmp_path, ProfileConfig(), 6, {3: lambda: os.kill(os.getpid(), signal.SIGUSR1)})
  assert found == {3: [3, 4, 5]}
  assert signal.getsignal(signal.SIGUSR1) is before


def test_file(tmp_path, monkeypatch):
  monkeypatch.setattr(profilers, "LOOK_SECONDS", 0.0)
  touch = (tmp_path / "profile").touch
  found, _ = run(tmp_path, ProfileConfig(num_steps=1), 5, {2: touch, 4: touch})
  assert found == {2: [2], 4: [4]}
  assert not (tmp_path / "profile").exists()


def test_file_is_not_looked_for_at_every_step(tmp_path):
  found, _ = run(tmp_path, ProfileConfig(), 3, {1: (tmp_path / "profile").touch})
  assert found == {}
  assert (tmp_path / "profile").exists()


def test_requests_during_a_trace_are_answered_by_it(tmp_path, monkeypatch):
  monkeypatch.setattr(profilers, "LOOK_SECONDS", 0.0)
  at = {3: lambda: os.kill(os.getpid(), signal.SIGUSR1), 4: (tmp_path / "profile").touch}
  found, _ = run(tmp_path, ProfileConfig(at_steps=(2, 4, 9), num_steps=3), 7, at)
  assert found == {2: [2, 3, 4]}
  assert not (tmp_path / "profile").exists()


def test_end_of_the_run_ends_a_trace(tmp_path):
  found, _ = run(tmp_path, ProfileConfig(at_steps=(4,), num_steps=100), 5)
  assert found == {4: [4, 5]}


def test_error_ends_a_trace_and_is_not_hidden(tmp_path):
  def crash():
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    run(tmp_path, ProfileConfig(at_steps=(2,)), 5, {3: crash})
  assert traced(tmp_path) == {2: [2]}


def test_what_goes_wrong_is_said_and_survived(tmp_path, caplog):
  """Somebody else traces; then the disk does not take the trace."""
  jax.profiler.start_trace(str(tmp_path / "other"))
  with caplog.at_level(logging.WARNING):
    assert run(tmp_path, ProfileConfig(at_steps=(1,), num_steps=1), 2)[0] == {}
  assert "no trace of step 1" in caplog.text
  jax.profiler.stop_trace()
  (tmp_path / profilers.FOLDER).write_text("in the way")
  with caplog.at_level(logging.WARNING):
    run(tmp_path, ProfileConfig(at_steps=(1, 2), num_steps=1), 3)
  assert "the trace of step 2 is lost" in caplog.text


def test_object_store(monkeypatch):
  monkeypatch.setattr(profilers, "LOOK_SECONDS", 0.0)
  with object_store.serve() as store, store.environment():
    found, _ = run("gs://bucket/run", ProfileConfig(at_steps=(1,), num_steps=1), 2)
    assert found == {1: [1]}
