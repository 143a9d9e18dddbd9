"""Where a whole training state lies on a mesh of eight devices, as text: one line for each array.

Weights, moments and averages of the tiny UNet on fsdp=2 x context=2 x tensor=2. A line that loses
its axes is memory that every device pays for; so a change of them is a decision and not an
accident. After a change that is meant, write the file anew:

  python -m tests.golden.shardings
"""

import pathlib

import jax

from tests.models import describe
from vidjax import config as configs
from vidjax import state as states
from vidjax import step as steps
from vidjax.models.unet import PRESETS
from vidjax.optim import optimizer as optimizers
from vidjax.parallel import plan
from vidjax.parallel.mesh import AXES

FILE = pathlib.Path(__file__).parent / "shardings" / "tiny_1x2x2x2.txt"
SHAPE = (1, 2, 2, 2)


def text() -> str:
  """What the file holds."""
  net = describe(PRESETS["tiny"])
  trained = frozenset(net.abstract)
  optimizer = optimizers.make_optimizer(configs.OptimizerConfig())
  mesh = jax.sharding.AbstractMesh(SHAPE, AXES)
  state = steps.abstract_state(
    lambda: states.create(net.init(jax.random.key(0)), optimizer, trained, (0.9999,)),
    plan.param_shardings(net.roles, net.abstract, mesh),
    mesh,
  )
  lines = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    lines.append(f"{name} {leaf.dtype}{list(leaf.shape)} {tuple(leaf.sharding.spec)}")
  return "\n".join(lines) + "\n"


if __name__ == "__main__":
  FILE.parent.mkdir(exist_ok=True)
  FILE.write_text(text())
