"""One process of a run that saves steps, for the tests beside it.

python checkpoint_worker.py DIRECTORY ACTION PROCESS PROCESSES PORT
"""

import sys

import jax


def main(directory: str, action: str, process: int, processes: int, port: int) -> None:
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 8 // processes)
  if processes > 1:
    jax.distributed.initialize(
      f"127.0.0.1:{port}",
      processes,
      process,
      initialization_timeout=60,
      shutdown_timeout_seconds=30,
    )
  from jax.sharding import NamedSharding
  from jax.sharding import PartitionSpec as P
  import numpy as np

  from vidjax.checkpoint import Checkpointer

  sharding = NamedSharding(jax.make_mesh((8,), ("fsdp",)), P("fsdp"))

  def state(step: int):
    values = np.random.default_rng(step).normal(size=(256, 1024)).astype(np.float32)
    kernel = jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
    return {"params": {"kernel": kernel}}, values

  with Checkpointer(directory, keep=2) as saver:
    if action == "save":
      for step in (1, 2, 3):
        saver.save(step, state(step)[0], {"samples": step})
    elif action == "save forever":
      for step in range(1, 10_000):
        saver.save(step, state(step)[0], {"samples": step})
        if (latest := saver.latest_step()) is not None:
          print(latest, flush=True)
    elif action == "restore":
      like = {
        "params": {"kernel": jax.ShapeDtypeStruct((256, 1024), np.float32, sharding=sharding)}
      }
      step, restored, position = saver.restore_latest(like)
      values = state(step)[1]
      for shard in restored["params"]["kernel"].addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), values[shard.index])
      assert position == {"samples": step}
      print("restored", step, flush=True)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
