"""The sharding plan: one PartitionSpec for each role. The only file that maps roles to mesh axes.

Activations are `x_BTHWC`, and where frames are joined `x_BTSC` with the positions S = H * W of a
frame. Networks take and give batches in the layout of a batch, B over `replica` and `fsdp`; inside,

  spatial layers    B over (replica, fsdp), T over `context`
  temporal layers   B over (replica, fsdp), S over `context`: an all-to-all before and one after
  tensor            C, between the first matrix of a pair and the second, which sums over `tensor`

What does not divide over `context` is computed by every device of the axis: clips of one frame in
spatial layers, and in temporal layers the positions of a level that `context` does not divide.

Weights are stored sharded (ZeRO-3) and gathered over `fsdp` where they are used, in the dtype of
the computation: half the bytes in bfloat16. The gradient takes the way back in that dtype, too. It
is summed and scattered over `fsdp` in one collective, and only what a device keeps is then summed
over `replica` and `context`; optimizer state and EMA stay sharded without another word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import contextvars
import dataclasses
import math

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# Parameters with fewer elements are replicated on purpose, and so are all vectors (biases, norm
# scales, mix factors): a gather costs a round trip whatever it carries.
SMALL = 2**16

_BATCH = ("replica", "fsdp")

AnyMesh = Mesh | AbstractMesh  # of devices, or of their number only


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Dims of a kernel, counted from the end: split over `fsdp`, and over `tensor`."""

  fsdp: int | None = None
  tensor: int | None = None


# Output channels are the last dim, input channels the one before. A column kernel makes a share of
# the channels on each device of `tensor`, a row kernel reads them and sums what it makes. The two
# halves of a gated kernel lie side by side in its output dim, and a device needs a share of both:
# it is stored by input channels, and one all-to-all makes columns of it.
_LAYOUTS = {
  "conv": _Layout(fsdp=-1),
  "conv_column": _Layout(fsdp=-2, tensor=-1),
  "conv_row": _Layout(fsdp=-1, tensor=-2),
  "conv_row_scattered": _Layout(fsdp=-1, tensor=-2),
  "dense": _Layout(fsdp=-1),
  "dense_column": _Layout(fsdp=-2, tensor=-1),
  "dense_row": _Layout(fsdp=-1, tensor=-2),
  "dense_gated": _Layout(fsdp=-1, tensor=-2),
  "embed": _Layout(fsdp=-1),
  "vector": _Layout(),
}


# --- Parameters -----------------------------------------------------------------------------------


def param_spec(role: str, shape: tuple[int, ...], mesh: AnyMesh) -> P:
  """Stored layout of a parameter; replicated if small, or along a dim that does not divide."""
  layout = _LAYOUTS[role]
  entries: list[str | None] = [None] * len(shape)
  fsdp = layout.fsdp
  if fsdp is not None and mesh.shape["tensor"] == 1:
    fsdp = -1  # outputs: the rows of a file in PyTorch's layout, of which a device reads its own
  for axis, dim in (("fsdp", fsdp), ("tensor", layout.tensor)):
    size = mesh.shape[axis]
    if dim is not None and size > 1 and shape[dim] % size == 0 and math.prod(shape) >= SMALL:
      entries[dim] = axis
  return P(*entries) if any(entries) else P()


def param_shardings(
  roles: Mapping[str, str], abstract: Mapping[str, jax.ShapeDtypeStruct], mesh: AnyMesh
) -> dict[str, NamedSharding]:
  """Stored shardings of a flat parameter dict."""
  return {
    name: NamedSharding(mesh, param_spec(role, abstract[name].shape, mesh))
    for name, role in roles.items()
  }


def gather(weight: jax.Array) -> jax.Array:
  """The whole of a stored weight, for compute; without a mesh there is nothing to gather."""
  if jax.sharding.get_abstract_mesh().empty:
    return weight
  return jax.reshard(weight, P(*(None,) * weight.ndim))


def channelwise(vector_C: jax.Array, like: jax.Array) -> jax.Array:
  """A stored vector, (1, ..., 1, C), to be broadcast over `like` (..., C), whose C may be split."""
  if not jax.sharding.get_abstract_mesh().empty:
    vector_C = jax.reshard(vector_C, P(_spec(like)[-1]))
  return vector_C.reshape((1,) * (like.ndim - 1) + (-1,))


def apply(
  op: Callable[..., jax.Array],
  role: str,
  x: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  units: int = 0,
) -> jax.Array:
  """`op(x, kernel)` in the dtype of `x`, each device on its part of `x` and of the channels.

  Args:
    op: `(x, kernel)` or `(x, kernel, bias)` to an array of the same number of dims, the channels
      last. Along dims that are split in `x`, it must treat every entry for itself.
    role: of the kernel; says what of the channels a device reads and makes.
    x: the first dim is the batch, channels are the last.
    kernel: as it is stored.
    bias: what `op` takes as its third argument. A gated kernel needs it there, between the product
      and the gate; others add theirs outside.
    units: parts of the channels (heads) that are never cut: if their number does not divide over
      `tensor`, every device of the axis computes all; 0 for no such parts.
  """
  kernel = kernel.astype(x.dtype)
  vectors = () if bias is None else (bias.astype(x.dtype),)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return op(x, kernel, *vectors)

  dim, tensor = _LAYOUTS[role].tensor, mesh.shape["tensor"]
  if tensor == 1 or units % tensor:
    dim = None  # nothing is split
  kind = "" if dim is None else role.partition("_")[2]
  x_spec, stored = _spec(x), list(_spec(kernel))
  if dim is not None:  # also where it is too small to be stored so
    stored[dim] = "tensor"
    kernel = jax.reshard(kernel, P(*stored))
  if vectors and kind == "gated":
    vectors = (jax.reshard(vectors[0].reshape(2, -1), P(None, "tensor")),)
  kept = None if dim is None else "tensor"
  to_gather = [(axis, d) for d, axis in enumerate(stored) if axis not in (None, kept)]

  def local(x: jax.Array, kernel: jax.Array, *vectors: jax.Array) -> jax.Array:
    # Said before the gather, so that its transpose, the scatter, comes first on the way back, and
    # the other axes sum what is left of the gradient.
    others = _axes(x_spec) - _axes(stored)
    kernel = jax.lax.pcast(kernel, tuple(sorted(others)), to="varying")
    for axis, d in to_gather:
      # The gradient of a kernel that all devices use alike is the same on all: nothing to sum.
      to = "varying" if axis in _axes(x_spec) else "invarying"
      kernel = jax.lax.all_gather(kernel, axis, axis=d, tiled=True, to=to)
    if kind == "gated":
      kernel = kernel.reshape(len(kernel), 2, -1)
      kernel = jax.lax.all_to_all(kernel, "tensor", split_axis=2, concat_axis=0, tiled=True)
      kernel, vectors = kernel.reshape(len(kernel), -1), tuple(v.reshape(-1) for v in vectors)
    y = op(x, kernel, *vectors)
    match kind:
      case "row":
        return jax.lax.psum(y, "tensor")
      case "row_scattered":
        return jax.lax.psum_scatter(y, "tensor", scatter_dimension=y.ndim - 1, tiled=True)
      case _:
        return y

  made = None if kind in ("", "row") else "tensor"
  return jax.shard_map(
    local,
    in_specs=(x_spec, P(*stored), *(jax.typeof(v).sharding.spec for v in vectors)),
    out_specs=P(*x_spec[:-1], made),
  )(x, kernel, *vectors)


_is_reference = contextvars.ContextVar("is_reference", default=False)


@contextlib.contextmanager
def references() -> Iterator[None]:
  """What is traced meanwhile has kernels' references in their place: plain JAX, of any platform."""
  token = _is_reference.set(True)
  try:
    yield
  finally:
    _is_reference.reset(token)


def platform() -> str:
  """What is compiled for, "cpu", "gpu" or "tpu": of the mesh, whose devices need not be here."""
  return "cpu" if _is_reference.get() else _device_platform()


def _device_platform() -> str:
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def local(op: Callable[..., jax.Array], x: jax.Array, *others: jax.Array) -> jax.Array:
  """`op(x, *others)`, each device on its part: of what XLA cannot divide by itself, as kernels.

  Args:
    op: to an array of the layout and the number of dims of `x`; every entry along a dim that is
      split stands for itself.
    x: as it is laid out.
    others: likewise.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return op(x, *others)
  specs = tuple(_spec(each) for each in (x, *others))
  # Kernels do not say over which axes their results vary.
  return jax.shard_map(op, in_specs=specs, out_specs=specs[0], check_vma=False)(x, *others)


# --- Activations ----------------------------------------------------------------------------------


def batch_spec(mesh: AnyMesh) -> P:
  """Layout of batches: the first dim, B, over `replica` and `fsdp`.

  Where both are one device, nothing is split, and the type does not say that it is: a reshape has
  no rule for a batch of one that is sharded over one device.
  """
  return P(_BATCH) if batch_divisor(mesh) > 1 else P()


def shard_batch(x: jax.Array) -> jax.Array:
  """States that the first dim of `x` is the batch; a no-op without a mesh."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  spec = batch_spec(mesh)
  return jax.reshard(x, P(*spec, *(None,) * (x.ndim - len(spec))))


def batch_divisor(mesh: AnyMesh) -> int:
  """What the global batch size must be a multiple of."""
  return mesh.shape["replica"] * mesh.shape["fsdp"]


def split_frames(x_BT: jax.Array) -> jax.Array:
  """(B, T, ...) with T over `context`, for spatial layers, where it divides."""
  return _with_context(x_BT, 1)


def split_positions(x_BTS: jax.Array) -> jax.Array:
  """(B, T, S, ...) with T whole and S over `context`, for temporal layers, where it divides."""
  return _with_context(x_BTS, 2)


def whole_frames(x_BT: jax.Array) -> jax.Array:
  """(B, T, ...) with T whole: what a network gives."""
  return _with_context(x_BT, None)


def is_split(x: jax.Array, *dims: int) -> bool:
  """Whether any of `dims` of `x` is divided among devices."""
  if jax.sharding.get_abstract_mesh().empty:
    return False
  return any(_spec(x)[dim] is not None for dim in dims)


def _with_context(x: jax.Array, dim: int | None) -> jax.Array:
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.shape["context"] == 1:
    return x
  entries = [None if entry == "context" else entry for entry in _spec(x)]
  if dim is not None and x.shape[dim] % mesh.shape["context"] == 0:
    entries[dim] = "context"
  return jax.reshard(x, P(*entries))


def _spec(x: jax.Array) -> P:
  """The layout of `x`, one entry for each dim."""
  spec = jax.typeof(x).sharding.spec
  return P(*spec, *(None,) * (x.ndim - len(spec)))


def _axes(spec: Iterable) -> set[str]:
  """All mesh axes in a layout."""
  entries = (entry if isinstance(entry, tuple) else (entry,) for entry in spec)
  return {axis for entry in entries for axis in entry if axis is not None}
