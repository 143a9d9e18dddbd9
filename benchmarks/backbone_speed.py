"""I3D's features beside PyTorch's: the same weights and clips on the same CPU.

  JAX_PLATFORMS=cpu python -m benchmarks.backbone_speed

Both networks are run in turns, in one process, with all cores each; the first call of each is
apart. Prints a table with medians, clips a second, and how many times as long as ours each took: by
medians, and by fastest calls, which other work on the machine disturbs least. Once for the network
by itself, and once for the whole way from frames of another size, resized as StyleGAN-V's file does
it, to 400 numbers a clip. The reference is the plain one of the tests; with the package `cd-fvd`
installed, its network is another row. All have to agree on what they compute.
"""

from collections.abc import Callable
import statistics
import time

from absl import app, flags
import jax
import numpy as np
import torch

from tests.parity import feature_networks
from vidjax.backbones import i3d, layouts, preprocess

_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed calls of each, after the first.")
_BATCH = flags.DEFINE_integer("batch", 4, "Clips in a call.")
_FRAMES = flags.DEFINE_integer("frames", 16, "Frames of a clip.")
_HEIGHT = flags.DEFINE_integer("height", 240, "Pixels of frames before they are resized.")
_WIDTH = flags.DEFINE_integer("width", 320, "Pixels of frames before they are resized.")


def in_turns(calls: dict[str, Callable[[], np.ndarray]]) -> dict[str, list[float]]:
  """Seconds of each call, the first one first; they have to agree on what they compute."""
  seconds: dict[str, list[float]] = {name: [] for name in calls}
  results = {}
  for _ in range(_ROUNDS.value + 1):
    for name, call in calls.items():
      began = time.perf_counter()
      results[name] = call()
      seconds[name].append(time.perf_counter() - began)
  first, *others = results.values()
  for other in others:
    assert np.abs(first - other).max() < 1e-4 * np.abs(other).max()
  return seconds


def networks(model: torch.nn.Module) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
  """The references by name, with the weights of `model`."""
  found: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "PyTorch, plain": lambda x: model(x)["logits"]
  }
  try:
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
  except ImportError:
    return found
  peer = InceptionI3d(400)
  peer.eval()
  peer.load_state_dict(model.state_dict())
  return found | {"PyTorch, cd-fvd": peer}


def table(what: str, seconds: dict[str, list[float]]) -> list[str]:
  medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
  ours, fastest = medians["vidjax"], min(seconds["vidjax"][1:])
  return [
    f"| {what} | {name} | {values[0]:.2f} | {medians[name]:.3f} | {min(values[1:]):.3f} to"
    f" {max(values[1:]):.3f} | {_BATCH.value / medians[name]:.2f} | {medians[name] / ours:.2f} |"
    f" {min(values[1:]) / fastest:.2f} |"
    for name, values in seconds.items()
  ]


def main(_: list[str]) -> None:
  # The peer has this eps; it makes no difference to the time.
  model = feature_networks.randomize(feature_networks.I3D(eps=1e-5), 0)
  network = i3d.describe()
  tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
  layout = layouts.with_eps(layouts.I3D_TORCH, 1e-5)
  params = jax.device_put(layouts.convert(layout, network, tensors))
  rng = np.random.default_rng(0)
  clips = (_BATCH.value, _FRAMES.value)
  raw = rng.integers(0, 256, (*clips, _HEIGHT.value, _WIDTH.value, 3)).astype(np.float32)
  ready = rng.uniform(-1, 1, (*clips, i3d.SIZE, i3d.SIZE, 3)).astype(np.float32)

  apply = jax.jit(lambda p, x: network.bind(p)(x)["logits"])
  whole = jax.jit(lambda p, x: network.bind(p)(preprocess.i3d_squash(x))["logits"])
  raw_torch, ready_torch = feature_networks.frames(raw), feature_networks.frames(ready)

  def resized() -> torch.Tensor:
    flat = raw_torch.transpose(1, 2).flatten(0, 1)
    flat = torch.nn.functional.interpolate(flat, (i3d.SIZE, i3d.SIZE), mode="bilinear")
    return flat.unflatten(0, clips).transpose(1, 2) * 2 / 255 - 1

  rows = []
  with torch.no_grad():
    references = networks(model)
    by_itself = {"vidjax": lambda: np.asarray(apply(params, ready))}
    from_frames = {"vidjax": lambda: np.asarray(whole(params, raw))}
    for name, reference in references.items():
      by_itself[name] = lambda r=reference: r(ready_torch).numpy()
      from_frames[name] = lambda r=reference: r(resized()).numpy()
    rows += table("network", in_turns(by_itself))
    rows += table(f"from {_HEIGHT.value}x{_WIDTH.value}", in_turns(from_frames))
  print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, jax {jax.__version__}")
  print(f"{_BATCH.value} clips of {_FRAMES.value} frames in a call, {_ROUNDS.value} rounds\n")
  print(
    "| | | first call, s | median, s | range, s | clips / s | ratio of medians | of fastest calls |"
  )
  print("|---|---|---|---|---|---|---|---|")
  print("\n".join(rows))


if __name__ == "__main__":
  app.run(main)
