"""`vidjax evaluate` on feature files: the numbers, the result's keys, and what errors say."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from vidjax.evaluation import feature_files
from vidjax.metrics import protocols, results


@pytest.fixture
def files(tmp_path):
  rng = np.random.default_rng(0)
  real, fake = rng.standard_normal((60, 5)), rng.standard_normal((50, 5)) + 1
  np.savez(tmp_path / "real.npz", features=real.astype(np.float32))
  np.savez(tmp_path / "fake.npz", features=fake.astype(np.float32))
  return tmp_path


def run(*arguments):
  command = [sys.executable, "-m", "vidjax.evaluate", *map(str, arguments)]
  return subprocess.run(command, capture_output=True, text=True, env=os.environ)


def test_command_writes_the_result(files):
  out = files / "out"
  done = run(f"--real_features={files}/real.npz", f"--fake_features={files}/fake.npz",
             "--ddof=1", f"--out={out}")  # fmt: skip
  assert done.returncode == 0, done.stderr
  content = json.loads((out / "result.json").read_text())
  assert content.keys() == {
    "protocol", "protocol_hash", "n_real", "n_fake", "metrics", "weights", "decoder", "code_version"
  }  # fmt: skip
  assert (content["n_real"], content["n_fake"]) == (60, 50)
  assert content["metrics"].keys() == {"frechet", "kid"}
  for metric in content["metrics"].values():
    assert metric.keys() == {"value", "low", "high", "unit"}
    assert metric["low"] < metric["value"] < metric["high"]
  assert content["protocol_hash"] in (out / "report.md").read_text()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--real_features={0}/real.npz"], "--fake_features is missing"),
    (["--real_features={0}/none.npz", "--fake_features={0}/fake.npz"], "none.npz: there is no"),
    (["--protocol=demo", "--data=x"], "needs --data, and one of --model and --fake"),
    (["--protocol=dmeo"], "--protocol=dmeo: did you mean"),
    (["--protocol=svd-ucf101"], "--data=DIR is missing"),
    (["--protocol=svd-ucf101", "--data=x"], "--weights=DIR is missing"),
    (["--protocol=svd-ucf101", "--data=x", "--weights=y"], "needs one of --model and --fake"),
    (["--protocol=demo", "--data=x", "--limit=3"], "--limit has no meaning beside --protocol=demo"),
    ([], "give --protocol=NAME"),
  ],
)
def test_command_ends_with_2_and_one_line(files, arguments, message):
  done = run(*(text.format(files) for text in arguments), f"--out={files}/out")
  assert done.returncode == 2
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert not (files / "out").exists()


def test_unusable_files_are_named(files):
  np.savez(files / "other.npz", feats=np.zeros((9, 5)))
  np.save(files / "plain.npy", np.zeros((9, 5)))
  (files / "text.npz").write_text("not a zip file")
  (files / "cut.npz").write_bytes((files / "real.npz").read_bytes()[:400])
  np.savez(files / "objects.npz", features=np.array([{}, {}], object))
  np.savez(files / "other_d.npz", features=np.zeros((9, 6)))
  np.savez(files / "nan.npz", features=np.full((9, 5), np.nan))
  expected = {
    "other.npz": "has no array 'features', it holds: feats",
    "plain.npy": "is an .npy file",
    "text.npz": "is not an .npz file",
    "cut.npz": "is not an .npz file",
    "objects.npz": "array 'features' cannot be read",
    "other_d.npz": "features D=6",
    "nan.npz": "features: 9 of 9 rows hold NaN",
  }
  for name, message in expected.items():
    with pytest.raises(ValueError, match=message) as error:
      feature_files.evaluate(str(files / "real.npz"), str(files / name), ddof=0)
    assert name in str(error.value)


def test_protocol_hash_knows_every_field():
  demo = protocols.Demo(num_frames=16, fps=4.0, height=64, width=96)
  others = [
    protocols.Demo(num_frames=16, fps=4.0, height=64, width=96, steps=11),
    protocols.Demo(num_frames=14, fps=4.0, height=64, width=96),
    protocols.Features(ddof=0),
    protocols.Features(ddof=1),
  ]
  hashes = {protocols.protocol_hash(protocol) for protocol in [demo, *others]}
  assert len(hashes) == 5
  assert protocols.protocol_hash(demo) == protocols.protocol_hash(
    protocols.Demo(num_frames=16, fps=4.0, height=64, width=96)
  )


@pytest.mark.filterwarnings("ignore:N=2 samples")
def test_intervals_that_cannot_be_had_are_null(files):
  np.savez(files / "two.npz", features=np.eye(2, 5))
  result = feature_files.evaluate(str(files / "two.npz"), str(files / "two.npz"), ddof=0)
  content = result.to_json("v")
  assert content["metrics"]["frechet"]["low"] is None
  json.dumps(content, allow_nan=False)
  assert "| – |" in results.report(content)
