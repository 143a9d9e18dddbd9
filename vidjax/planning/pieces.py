"""The distinct pieces of a training step: what a quick plan compiles instead of the whole.

A UNet is a few kinds of blocks, each many times. The loss is traced once, in the forward direction,
with a recorder around the modules of the networks: each outermost call of a module is a piece, with
its shapes, its parameters and the remat policy under which it runs. Equal pieces are one.

A piece that is trained costs a forward pass, and a backward pass that runs it again as far as the
policy says. A frozen encoder costs a forward pass, which compiles in seconds, and is one piece.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import dataclasses
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from vidjax.diffusion import noise
from vidjax.encoders import clip, t5, vae
from vidjax.models import blocks, factorized
from vidjax.nn import conv, dense, embed, norm, resample, resblock
from vidjax.nn.params import Params
from vidjax.parallel import remat
from vidjax.program import Program
from vidjax.step import Batch

# Modules that are compiled to know what they cost, whole networks where they are frozen, and those
# too small to be worth it, which are priced by arithmetic. A module inside another one belongs to
# that.
FROZEN = (vae.Encoder, clip.CLIPText, clip.CLIPVision, t5.T5Encoder)
COMPILED = (
  blocks.VideoResBlock,
  blocks.VideoTransformer,
  factorized.FactorizedResBlock,
  factorized.FactorizedTransformer,
  resblock.ResBlock,
  vae.SelfAttention,
)
SMALL = (
  conv.Conv,
  conv.TemporalConv,
  dense.Dense,
  embed.Embedding,
  embed.EmbeddingMLP,
  embed.MaskEmbedding,
  norm.GroupNorm,
  norm.LayerNorm,
  resample.Downsample,
  resample.Upsample,
)
_WHOLE_AGAIN = ("block", "offload")  # policies that run all of a block twice


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
  """One call of a module in the step.

  Attributes:
    kind: class of the module.
    graphdef: its structure.
    values: its parameters, shapes by path.
    args: of the call, shapes in place of arrays.
    kwargs: likewise.
    out: shape and dtype of the result.
    policy: of `vidjax.parallel.remat`; None where none is asked for.
    names: its parameters' names in their network.
    network: kind of the frozen encoder that it belongs to; "" for the trained network.
    live: which of its parameters get gradients.
    layout: PartitionSpecs of its parameters, of its arrays and of the result.
  """

  kind: type
  graphdef: Any
  values: tuple[tuple[tuple, Any], ...]
  args: tuple
  kwargs: tuple[tuple[str, Any], ...]
  out: jax.ShapeDtypeStruct
  policy: str | None
  names: tuple[str, ...]
  network: str
  live: tuple[bool, ...]
  layout: tuple[tuple[jax.P, ...], tuple[jax.P, ...], jax.P]

  @property
  def trained(self) -> bool:
    """Whether there is a backward pass."""
    return not self.network

  @property
  def recomputed(self) -> bool:
    """Whether the backward pass runs (part of) the forward pass again."""
    return self.trained and self.policy not in (None, "none")

  @property
  def runs_twice(self) -> bool:
    """Whether the backward pass begins by running the whole forward pass again."""
    return self.trained and self.policy in _WHOLE_AGAIN

  @property
  def compiled(self) -> bool:
    """Whether it is worth compiling."""
    return self.kind in (*COMPILED, *FROZEN)

  @property
  def key(self) -> tuple:
    """Equal for calls that cost the same."""
    return (
      self.kind,
      self.graphdef,
      tuple((path, leaf.shape, str(leaf.dtype)) for path, leaf in self.values),
      _signature(self.args),
      _signature(self.kwargs),
      self.policy,
      self.trained,
      self.live,
      self.layout,
    )

  @property
  def x(self) -> jax.ShapeDtypeStruct:
    """The activations that go in: the first argument."""
    return self.args[0]

  @property
  def arrays(self) -> list[jax.ShapeDtypeStruct]:
    """Its arguments that are arrays, `x` first."""
    return [leaf for leaf in self._leaves[0] if isinstance(leaf, jax.ShapeDtypeStruct)]

  @property
  def parameters(self) -> list[jax.ShapeDtypeStruct]:
    """Shapes of its parameters."""
    return [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in self.values]

  def forward(self, values: list, arrays: list) -> jax.Array:
    """The call as a function of `parameters` and `arrays`, under its policy."""
    module: Any = nnx.merge(
      self.graphdef,
      nnx.from_flat_state(
        [(path, like.replace(v)) for (path, like), v in zip(self.values, values, strict=True)]
      ),
    )
    leaves, structure = self._leaves
    given = iter(arrays)
    x, *args = jax.tree.unflatten(
      structure,
      [next(given) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf for leaf in leaves],
    )
    kwargs = args.pop()
    if self.policy is None:
      return module(x, *args, **kwargs)
    return remat.run(self.policy, lambda x: module(x, *args, **kwargs), x)

  def backward(self, values: list, arrays: list, dy: jax.Array) -> Any:
    """The gradients; what only the result needs is left out of the program."""
    return self.both_ways(values, arrays, dy)[1]

  def both_ways(self, values: list, arrays: list, dy: jax.Array) -> tuple[jax.Array, Any]:
    """The result and the gradients, with all that runs twice in between.

    The condition's tokens (a tuple among the arguments) come from frozen encoders and get none.
    """
    lone = sum(isinstance(a, jax.ShapeDtypeStruct) for a in self.args)  # arrays outside of tuples
    floating = [i for i, a in enumerate(arrays[:lone]) if jnp.issubdtype(a.dtype, jnp.floating)]
    live = [i for i, is_live in enumerate(self.live) if is_live]

    def of_live(some_values: list, some: list) -> jax.Array:
      return self.forward(_replaced(values, live, some_values), _replaced(arrays, floating, some))

    y, vjp = jax.vjp(of_live, [values[i] for i in live], [arrays[i] for i in floating])
    return y, vjp(dy)

  @functools.cache  # noqa: B019  (calls are few, and live as long as what is known of them)
  def stored_bytes(self, policy: str = "") -> int:
    """Activations that the backward pass finds stored in HBM, bytes; parameters are not counted.

    Args:
      policy: of recomputation, instead of its own.
    """
    if policy:
      return dataclasses.replace(self, policy=policy).stored_bytes()
    if self.policy == "offload":
      return 0

    def residuals(values: list, arrays: list) -> Any:
      return jax.vjp(lambda values, x: self.forward(values, [x, *arrays[1:]]), values, arrays[0])[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, self.parameters, self.arrays))
    sizes = [leaf.size for leaf in self.parameters]
    total = 0
    for leaf in leaves:
      if leaf.size in sizes:  # a parameter, or its copy in the computation's dtype
        sizes.remove(leaf.size)
        continue
      total += leaf.size * leaf.dtype.itemsize
    return total

  @property
  def _leaves(self) -> tuple[list, Any]:
    lone = [a for a in self.args if not isinstance(a, tuple)]
    assert lone == list(self.args[: len(lone)]), "tuples come last"
    return jax.tree.flatten((*self.args, dict(self.kwargs)))


@dataclasses.dataclass(frozen=True)
class Steps:
  """The calls of a step in their order, and which of them are equal."""

  calls: tuple[Call, ...]

  @functools.cached_property
  def distinct(self) -> dict[tuple, tuple[Call, int]]:
    """Key -> one of the equal calls, and how many there are."""
    found: dict[tuple, tuple[Call, int]] = {}
    for call in self.calls:
      found[call.key] = (call, found.get(call.key, (call, 0))[1] + 1)
    return found


def record(program: Program) -> Steps:
  """The calls of one pass of the loss over a batch, its pictures included."""
  calls: list[Call] = []

  def losses(params: Params, frozen: dict[str, Params], batch: Batch) -> list[jax.Array]:
    owners = {id(value): ("", name) for name, value in params.items()}
    for kind, weights in frozen.items():
      owners |= {id(value): (kind, name) for name, value in weights.items()}
    with _recording(calls, owners, program.trained):
      return _losses(program, params, frozen, batch)

  with jax.set_mesh(program.mesh):
    jax.eval_shape(losses, program.params, program.frozen, program.batch)
  return Steps(tuple(calls))


def _losses(
  program: Program, params: Params, frozen: dict[str, Params], batch: Batch
) -> list[jax.Array]:
  """As in `vidjax.step`: of the pictures beside the videos, if there are some, then of those."""
  videos = dict(batch)
  parts = [part for part in (videos.pop("images", None), videos) if part is not None]
  seed = program.config.seed
  keys = [noise.sample_keys(seed, part["sample_index_B"]) for part in parts]
  return [
    program.task.loss(params, frozen, part, keys_B)[0]
    for part, keys_B in zip(parts, keys, strict=True)
  ]


@contextlib.contextmanager
def _recording(
  calls: list[Call], owners: Mapping[int, tuple[str, str]], trained: Collection[str]
) -> Iterator[None]:
  """Notes the outermost calls of modules, for the length of the block.

  Modules have no hooks: for the length of one trace their classes' `__call__` is another.
  """
  depth, policies = [0], list[str]()

  def noted(kind: type, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(module: Any, *args: Any, **kwargs: Any) -> Any:
      if depth[0]:
        return call(module, *args, **kwargs)
      graphdef, state = nnx.split(module)
      leaves = nnx.to_flat_state(state)
      found = [owners[id(leaf[...])] for _, leaf in leaves]
      networks = {network for network, _ in found} or {""}
      if kind in FROZEN and "" in networks:
        return call(module, *args, **kwargs)  # it is trained: its blocks are the pieces
      depth[0] += 1
      try:
        out = call(module, *args, **kwargs)
      finally:
        depth[0] -= 1
      (network,) = networks
      calls.append(
        Call(
          kind,
          graphdef,
          tuple((path, leaf.replace(_shape(leaf[...]))) for path, leaf in leaves),
          jax.tree.map(_shape, args),
          tuple(sorted((name, _shape(value)) for name, value in kwargs.items())),
          _shape(out),
          policies[-1] if policies else None,
          tuple(name for _, name in found),
          network,
          tuple(not network and name in trained for _, name in found),
          (
            tuple(_spec(leaf[...]) for _, leaf in leaves),
            tuple(map(_spec, filter(_is_array, jax.tree.leaves((args, kwargs))))),
            _spec(out),
          ),
        )
      )
      return out

    return wrapped

  def under_policy(policy: str, block: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    policies.append(policy)
    try:
      return run(policy, block, x)
    finally:
      policies.pop()

  run = remat.run
  kinds: tuple[Any, ...] = (*FROZEN, *COMPILED, *SMALL)
  originals = [(kind, kind.__call__) for kind in kinds]
  try:
    remat.run = under_policy
    for kind, call in originals:
      kind.__call__ = noted(kind, call)
    yield
  finally:
    remat.run = run
    for kind, call in originals:
      kind.__call__ = call


def _replaced(values: list, places: list[int], others: list) -> list:
  result = list(values)
  for place, other in zip(places, others, strict=True):
    result[place] = other
  return result


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array)


def _spec(value: jax.Array) -> jax.P:
  return jax.typeof(value).sharding.spec


def _shape(value: Any) -> Any:
  if _is_array(value):
    return jax.ShapeDtypeStruct(value.shape, value.dtype)
  return value


def _signature(tree: Any) -> tuple:
  leaves, structure = jax.tree.flatten(tree)
  return str(structure), tuple(
    (leaf.shape, str(leaf.dtype)) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
    for leaf in leaves
  )
