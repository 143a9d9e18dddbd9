"""Programs that are compiled quickly, and once: the environment of tests, and of what they start.

Tests compile far longer than they compute. Nothing that they keep is outside of the checkout.
"""

import os
import pathlib

# Of a step, these take 15 s of processor time where the defaults take 70 s.
_COMPILE_QUICKLY = (
  "--xla_backend_optimization_level=0",
  "--xla_cpu_use_fusion_emitters=false",
  "--xla_cpu_parallel_codegen_split_count=1",
)
_CACHE = pathlib.Path(__file__).parents[1] / ".pytest_cache"


def set_environment() -> None:
  """To be called before JAX is imported; what is set already stays."""
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE / "jax"))
  os.environ.setdefault("VIDJAX_CACHE", str(_CACHE / "vidjax"))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  os.environ.setdefault("XLA_FLAGS", " ".join(_COMPILE_QUICKLY))
