"""Exit codes, and what a user sees of a failure."""

import errno

from absl import flags
import botocore.exceptions
import gcsfs.retry
import jax.numpy as jnp
import numpy as np
import pytest

from vidjax import errors, storage


def _fail(exc):
  raise exc


def _validation():
  exec(compile("raise ValueError('total_samples=0: has to be positive')", "x", "exec"), _OURS)


_OURS = {"__name__": "vidjax.config"}

CODES = [
  (errors.UserError("x"), 2),
  (errors.DataError("x"), 3),
  (errors.CheckpointError("x"), 4),
  (errors.NonFiniteError("x"), 5),
  (errors.NoSpaceError("x"), 7),
  (OSError(errno.ENOSPC, "full"), 7),
  (errors.Preempted("x"), 75),
  (errors.Interrupted("x"), 130),
  (KeyboardInterrupt(), 130),
  (FileNotFoundError(2, "no such file", "/a"), 2),
  (PermissionError(13, "denied", "/a"), 2),
  (flags.IllegalFlagValueError("x"), 2),
  (RuntimeError("x"), 1),
  (KeyError("x"), 1),
]


@pytest.mark.parametrize(("exc", "code"), CODES)
def test_codes(exc, code, capsys):
  assert errors.run_main(_fail, exc, debug=False) == code
  lines = capsys.readouterr().err.strip().splitlines()
  assert lines[-1].startswith("vidjax: ")
  assert (len(lines) == 1) == (code != 1), "only internal errors have a traceback"


def test_our_validation_is_bad_input(capsys):
  assert errors.run_main(_validation, debug=False) == 2
  expected = "vidjax: error: total_samples=0: has to be positive\n"
  assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
  "bug",
  [
    lambda: np.zeros(3) + np.zeros(4),
    lambda: jnp.zeros(3).reshape(7),
    lambda: int("x"),
  ],
)
def test_value_errors_of_libraries_are_internal(bug, capsys, monkeypatch):
  monkeypatch.setitem(bug.__globals__, "__name__", "vidjax.train")
  assert errors.run_main(bug, debug=False) == 1
  assert "Traceback" in capsys.readouterr().err


def test_missing_file_of_the_user(tmp_path, capsys):
  assert errors.run_main(storage.read_text, tmp_path / "none.txt", debug=False) == 2
  assert "none.txt" in capsys.readouterr().err


def test_no_space_behind_another_error():
  def save():
    try:
      _fail(OSError(errno.ENOSPC, "full"))
    except OSError as exc:
      raise RuntimeError("cannot save") from exc

  assert errors.run_main(save, debug=False) == 7


@pytest.mark.parametrize("debug", [True, False])
def test_traceback_on_demand(debug, capsys, monkeypatch):
  monkeypatch.setenv("VIDJAX_DEBUG", "1" if debug else "0")
  assert errors.run_main(_fail, errors.DataError("x")) == 3
  assert ("Traceback" in capsys.readouterr().err) == debug


def test_results_and_exits():
  assert errors.run_main(lambda: None) == 0
  assert errors.run_main(lambda: 3) == 3
  assert errors.run_main(_fail, SystemExit(4)) == 4
  assert errors.run_main(_fail, SystemExit("words")) == 1
  assert errors.run_main(_fail, SystemExit()) == 0


def _from(error, cause):
  error.__cause__ = cause
  return error


@pytest.mark.parametrize(
  ("error", "is_away"),
  [
    (ConnectionResetError("reset"), True),
    (TimeoutError("timed out"), True),
    (PermissionError(13, "denied", "/a"), True),
    (OSError(errno.ESTALE, "stale file handle"), True),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1"), True),
    (gcsfs.retry.HttpError({"code": 503, "message": "try again"}), True),
    (ValueError("UNAVAILABLE: Error reading gs://bucket/checkpoints/404"), True),
    (RuntimeError("cannot schedule new futures after interpreter shutdown"), True),
    (_from(errors.CheckpointError("x"), ConnectionRefusedError("refused")), True),
    (gcsfs.retry.HttpError({"code": 404, "message": "No such object"}), False),
    (_from(errors.CheckpointError("x"), _from(FileNotFoundError("x"), TimeoutError())), False),
    (ValueError("NOT_FOUND: Error opening the manifest: UNAVAILABLE"), False),
    (ValueError("DATA_LOSS: Error decoding"), False),
    (OSError(errno.EIO, "input/output error"), False),
    (KeyError("x"), False),
  ],
)
def test_what_says_only_that_a_store_is_away(error, is_away):
  assert errors.is_unreachable(error) is is_away


def test_an_error_that_is_its_own_cause_is_looked_at_once():
  again = KeyError("x")
  error = _from(errors.CheckpointError("x"), _from(again, _from(ValueError("y"), again)))
  assert not errors.is_unreachable(error)
  assert not errors.is_no_space(error)
