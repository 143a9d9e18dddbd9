"""vidjax: pretraining of latent video diffusion models in JAX, on TPU pods and GPU meshes.

pipe = vidjax.Pipeline.from_pretrained("DIR")
vidjax.metrics.frechet_distance(real_features, fake_features)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vidjax import metrics
  from vidjax.pipeline import Pipeline

__all__ = ["Pipeline", "metrics"]


def __getattr__(name: str) -> Any:
  """Loads the public names when they are first used: `import vidjax` alone stays light."""
  if name == "Pipeline":
    return importlib.import_module("vidjax.pipeline").Pipeline
  if name == "metrics":
    return importlib.import_module("vidjax.metrics")
  raise AttributeError(f"module 'vidjax' has no attribute {name!r}")
