"""One process of a run that saves steps, for the tests beside it.

python checkpoint_worker.py DIRECTORY ACTION PROCESS PROCESSES PORT
"""

import sys
import time

import jax


def main(directory: str, action: str, process: int, processes: int, port: int) -> None:
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 8 // processes)
  if processes > 1:
    jax.distributed.initialize(
      f"127.0.0.1:{port}",
      processes,
      process,
      initialization_timeout=240,
      shutdown_timeout_seconds=60,
    )
  from jax.sharding import NamedSharding
  from jax.sharding import PartitionSpec as P
  import numpy as np

  from vidjax import storage
  from vidjax.checkpoint import Checkpointer, LocalCopies
  from vidjax.observe import lease
  from vidjax.parallel import distributed

  sharding = NamedSharding(jax.make_mesh((8,), ("fsdp",)), P("fsdp"))

  def state(step: int):
    values = np.random.default_rng(step).normal(size=(256, 1024)).astype(np.float32)
    kernel = jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])
    return {"params": {"kernel": kernel}}, values

  def abstract():
    kernel = jax.ShapeDtypeStruct((256, 1024), np.float32, sharding=sharding)
    return {"params": {"kernel": kernel}}

  def assert_is(step: int, restored, position) -> None:
    values = state(step)[1]
    for shard in restored["params"]["kernel"].addressable_shards:
      np.testing.assert_array_equal(np.asarray(shard.data), values[shard.index])
    assert position == {"samples": step}

  def local() -> LocalCopies:
    return LocalCopies(storage.Path(directory).parent / "ram", directory, run=1)

  with Checkpointer(directory, keep=2) as saver:
    if action == "save":
      for step in (1, 2, 3):
        saver.save(step, state(step)[0], {"samples": step})
    elif action == "save forever":
      for step in range(1, 10_000):
        saver.save(step, state(step)[0], {"samples": step})
        if (latest := saver.latest_step()) is not None:
          print(latest, flush=True)
    elif action == "claim":
      claimed = distributed.by_first(lambda: lease.claim(storage.Path(directory)))
      print("attempt", claimed and claimed.attempt, flush=True)
    elif action == "save until taken over":
      root = storage.Path(directory).parent
      if process == 0:
        root.mkdir(parents=True, exist_ok=True)
        mine = lease.claim(root)
        storage.write_json(root / lease.FILE, mine.to_json())
        saver.fence = mine.lost
      for step in range(1, 10_000):
        saver.save(step, state(step)[0], {"samples": step})
        print(step, flush=True)
    elif action == "fail on the last":
      saver.save(1, state(1)[0], {"samples": 1})
      saver.wait()
      if process == processes - 1:

        def full(**_):
          raise OSError(28, "No space left on device")

        # Where the background thread of this process meets the others.
        saver._writer._async_manager._sync_fn = lambda *_: full()
      largest = distributed.Largest(sharding.mesh)
      saver.save(2, state(2)[0], {"samples": 2})
      for _ in range(1000):
        if failed := largest(saver.failing()):
          saver.give_up(failed)
        time.sleep(0.01)
    elif action == "fail on the last, unseen":
      if process == processes - 1:
        saver._writer._async_manager._sync_fn = lambda *_: 1 // 0
      saver.save(1, state(1)[0], {"samples": 1})
      saver.save(2, state(2)[0], {"samples": 2})
    elif action == "save locally":
      saver.save(1, state(1)[0], {"samples": 1})
      saver.wait()
      copies = local()
      for step in (2, 3):
        copies.save(step, state(step)[0], {"samples": step})
      copies._settle()
      print("copied", copies._steps(), flush=True)
    elif action == "restore":
      saver.local = local()
      step, restored, position = saver.restore_latest(abstract())
      assert_is(step, restored, position)
      print(f"restored {step}: {saver.local.why}", flush=True)


if __name__ == "__main__":
  from vidjax import errors
  from vidjax.parallel import distributed

  code = errors.run_main(lambda: main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))
  if code:
    distributed.depart(code)
  sys.exit(code)
