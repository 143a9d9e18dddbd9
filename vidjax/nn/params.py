"""Modules as pure functions: a Flax NNX module split into a graph definition and one flat dict.

Everywhere outside a module's own code, parameters are a flat `dict[str, jax.Array]` whose keys are
dotted attribute paths (`"down_blocks.0.resnets.1.spatial.conv1.kernel"`). One flat, sorted dict
serves the optimizer, EMA, checkpoints, freezing by pattern, warm starts and name tables alike.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, Generic, TypeAlias, TypeVar

from flax import nnx
import jax

from vidjax.nn.init import Keys

nnx.set_graph_mode(False)  # modules are plain trees: no shared references, transforms are jax's own

Params: TypeAlias = dict[str, Any]  # arrays by flat name, on devices or on the host
ModuleT = TypeVar("ModuleT", bound=nnx.Module)


@dataclasses.dataclass(frozen=True)
class Network(Generic[ModuleT]):
  """A module without its values.

  Attributes:
    build: makes the module from `Keys`; called under `jit` or `eval_shape` only.
    graphdef: static structure of the module.
    abstract: shape and dtype of each parameter by flat name.
    roles: sharding role of each parameter by flat name (see `vidjax.parallel.plan`).
  """

  build: Callable[[Keys], ModuleT]
  graphdef: nnx.GraphDef
  abstract: dict[str, jax.ShapeDtypeStruct]
  roles: dict[str, str]
  template: tuple

  def init(self, key: jax.Array) -> Params:
    """Draws fresh parameters from `key`. Jit it with `out_shardings` to create them sharded."""
    _, state = nnx.split(self.build(Keys(key)))
    return {_name(path): leaf[...] for path, leaf in nnx.to_flat_state(state)}

  def bind(self, params: Params) -> ModuleT:
    """Puts `params` into the module; differentiate through this.

    Raises:
      ValueError: a name is missing or unknown.
    """
    if params.keys() != self.abstract.keys():
      missing = sorted(self.abstract.keys() - params.keys())[:3]
      unknown = sorted(params.keys() - self.abstract.keys())[:3]
      raise ValueError(f"parameters do not fit the model: missing {missing}, unknown {unknown}")
    leaves = [(path, leaf.replace(params[_name(path)])) for path, leaf in self.template]
    return nnx.merge(self.graphdef, nnx.from_flat_state(leaves))


def network(build: Callable[[Keys], ModuleT]) -> Network[ModuleT]:
  """Describes the module that `build` makes, without computing a single value."""
  abstract_module = nnx.eval_shape(lambda: build(Keys(jax.random.key(0))))
  graphdef, state = nnx.split(abstract_module)
  template = tuple(nnx.to_flat_state(state))
  abstract, roles = {}, {}
  for path, leaf in template:
    role = leaf.get_metadata().get("role")
    assert role is not None, f"parameter {_name(path)} has no sharding role"
    abstract[_name(path)] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    roles[_name(path)] = role
  return Network(build, graphdef, abstract, roles, template)


def _name(path: tuple) -> str:
  return ".".join(str(part) for part in path)
