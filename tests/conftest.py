"""The strict world in which every test runs.

Eight CPU devices, no implicit dtype or rank promotion, warnings are errors (pyproject.toml).
"""

from collections.abc import Iterator
import gc
import os
import pathlib

import quick_programs

quick_programs.set_environment()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from absl import flags
import jax
import pytest

pytest_plugins = ["turns", "progress"]

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()  # grain asks for a flag


# Mappings of memory that a process may have before its programs are dropped; Linux ends it at
# 65530, a compiled program takes dozens, and JAX keeps all.
_MOST_MAPPINGS = 30_000


@pytest.fixture(scope="module", autouse=True)
def _programs_do_not_pile_up() -> Iterator[None]:
  yield
  maps = pathlib.Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPPINGS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="module")
def garbage_is_collected_here() -> Iterator[None]:
  """What complains when it is thrown away does so in this file, and in no test of another one."""
  yield
  gc.collect()


@pytest.fixture(scope="session")
def repo_root() -> pathlib.Path:
  return pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data(repo_root: pathlib.Path) -> pathlib.Path:
  """Folder of real sample videos and images beside the checkout."""
  folder = repo_root.parent / "shared" / "data"
  if not (folder / "MANIFEST.json").exists():
    pytest.skip("the folder of real sample data is not beside this checkout")
  return folder
