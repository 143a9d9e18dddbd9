"""Checkpoints and files on s3://, against moto; skipped where that is not installed."""

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import object_store
import pytest

from vidjax import storage
from vidjax.checkpoint import Checkpointer, orbax_s3, restore_params

pytest.importorskip("moto", reason="moto[server] emulates S3")
pytestmark = pytest.mark.slow


def _state(value: float):
  sharding = NamedSharding(jax.make_mesh((8,), ("fsdp",)), P("fsdp"))
  kernel = np.full((8, 4), value, np.float32)
  return {"params": {"kernel": jax.device_put(kernel, sharding)}}


def test_checkpoints_and_files():
  with object_store.serve_s3() as bucket:
    folder = storage.Path(f"{bucket}/run/checkpoints")
    with Checkpointer(folder, 1) as saver:
      saver.save(1, _state(1), {"samples": 10})
      saver.save(2, _state(2), {"samples": 20})
    step, state, position = saver.restore_latest(
      jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _state(0))
    )
    assert (step, position) == (2, {"samples": 20})
    np.testing.assert_array_equal(np.asarray(state["params"]["kernel"]), 2)
    np.testing.assert_array_equal(restore_params(f"{bucket}/run", "raw")["kernel"], 2)
    assert {path.name for path in folder.iterdir()} == {"2"}

    storage.write_json(f"{bucket}/a/b.json", [1, 2])
    assert storage.read_json(f"{bucket}/a/b.json") == [1, 2]
    with storage.local_copy(f"{bucket}/a") as local:
      assert storage.read_json(f"{local}/b.json") == [1, 2]
    storage.remove(f"{bucket}/a")
    assert not storage.Path(f"{bucket}/a").exists()


def test_endpoint_and_region_come_from_the_environment(monkeypatch):
  for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
    monkeypatch.delenv(name, raising=False)
  expected = {"driver": "s3", "bucket": "b", "path": "x/y"}
  assert orbax_s3.s3_kvstore("s3://b/x/y") == expected
  monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
  monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
  spec = orbax_s3.s3_kvstore("s3://b/x/y")
  assert spec == expected | {"endpoint": "http://minio:9000", "aws_region": "eu-west-1"}
