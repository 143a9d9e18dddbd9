"""I3D as TF-Hub publishes it, a folder with a graph and its variables; read by TensorFlow.

A graph is a program, and TensorFlow runs it: only folders that the user says to trust are opened.

B clips, T frames, H W pixels, C channels.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses

import numpy as np

from vidjax import storage


@dataclasses.dataclass(frozen=True)
class Model:
  """An opened graph.

  Attributes:
    shapes: of its variables, by name.
    read: gives a variable.
    features: the graph's own logits (B, 400) of clips (B, T, 224, 224, 3) in [0, 255].
  """

  shapes: Mapping[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  features: Callable[[np.ndarray], np.ndarray]


@contextlib.contextmanager
def opened(path: storage.PathLike, trust: bool) -> Iterator[Model]:
  """Opens the folder of a SavedModel: RUNS WHAT IS IN IT, so only with `trust`.

  Raises:
    ValueError: without trust; TensorFlow is not installed; there is no such folder.
  """
  if not trust:
    raise ValueError(
      f"{path} is a program (a graph of TensorFlow), and converting it runs it: pass --trust if you"
      " know where it comes from"
    )
  if not (storage.Path(path) / "saved_model.pb").exists():
    raise ValueError(
      f"{path} has no saved_model.pb: give the folder that TF-Hub's archive unpacks to"
    )
  try:
    import tensorflow as tf  # pyright: ignore[reportMissingImports]
  except ModuleNotFoundError as exc:
    raise ValueError(
      f"{path} is read by TensorFlow, which is not installed: install it for the conversion, or"
      " convert StyleGAN-V's i3d_torchscript.pt, which holds the same weights"
    ) from exc
  with storage.local_copy(path) as local:
    variables = tf.train.load_checkpoint(f"{local}/variables/variables")
    # A module of TF-Hub's first format has its graph for inference under no tag.
    graph = tf.saved_model.load(local, tags=[])

    def features(video_BTHWC: np.ndarray) -> np.ndarray:
      scaled = tf.constant(video_BTHWC * np.float32(2 / 255) - 1)
      return graph.signatures["default"](scaled)["default"].numpy()

    shapes = variables.get_variable_to_shape_map()
    yield Model({n: tuple(s) for n, s in shapes.items()}, variables.get_tensor, features)
