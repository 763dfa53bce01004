"""How much memory the head will need, before anything is allocated.

The step is compiled for arrays that do not exist, and the compiler is asked.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from facejax.head import api, objective, rowwise, storage
from facejax.losses import margins

P = jax.P

# Class ids are int32, and so are the rows of a shard, padding included.
MAX_CLASSES = 2**31 - 2**16

_DECAY = optax.add_decayed_weights(5e-4)
# What they hold does not depend on their numbers.
OPTIMIZERS: Mapping[str, optax.GradientTransformation] = {
  "momentum": optax.chain(_DECAY, optax.sgd(0.1, momentum=0.9)),
  "nesterov": optax.chain(_DECAY, optax.sgd(0.1, momentum=0.9, nesterov=True)),
  "adagrad": optax.adagrad(0.1),
  "adam": optax.adam(1e-3),
  "adamw": optax.adamw(1e-3),
  "sgd": optax.chain(_DECAY, optax.sgd(0.1)),
}
COSFACE = objective.Objective(functools.partial(margins.cosface, margin=0.4))

# Classes of a device in the smaller of two programs that growth is measured
# with: past the point where the sum over the classes needs a shift, for then
# both programs are the same.
_MANY_ROWS = 2**24


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What one device holds at the peak of a step of the head.

  Attributes:
    buffers: bytes by name; they add up to `total`.
    rows: classes of the device, padding included.
  """

  buffers: dict[str, int]
  rows: int

  @property
  def total(self) -> int:
    """Arguments + results - results in place of arguments + temporaries."""
    return sum(self.buffers.values())


class Growth(NamedTuple):
  """Peak = constant + per_class * classes of the device, in bytes."""

  per_class: float
  constant: float

  def classes(self, memory: float, *, shards: int) -> int:
    """How many classes fit into `memory` bytes of each device.

    >>> Growth(per_class=4096.0, constant=2.0**20).classes(2**30, shards=8)
    2095104
    """
    rows = math.floor((memory - self.constant) / self.per_class)
    return min(max(rows, 0) * shards, MAX_CLASSES)


def make_mesh(
  *, devices: int | None = None, model: int | None = None
) -> jax.sharding.Mesh:
  """A mesh of this machine's devices, or of CPU devices if they are too few.

  Args:
    devices: how many; None takes all that there are.
    model: how many of them the classes are split over; None for all.

  Raises:
    ValueError: if `model` does not divide them, or a running JAX was started
      with too few.
  """
  if devices is not None:
    # Too late once a backend runs; but then there may be enough.
    with contextlib.suppress(RuntimeError):
      jax.config.update("jax_num_cpu_devices", devices)
  found = jax.devices()
  devices = devices or len(found)
  if devices > len(found):
    with contextlib.suppress(RuntimeError):  # JAX_PLATFORMS without cpu
      found = jax.devices("cpu")
  if devices > len(found):
    raise ValueError(
      f"devices={devices}: JAX runs with {len(found)} ({found[0].platform});"
      f" choose 1 to {len(found)}, or start anew without JAX_PLATFORMS"
    )
  model = model or devices
  if devices % model:
    raise ValueError(f"model={model}: must divide devices={devices}")
  return jax.make_mesh(
    (devices // model, model),
    ("data", "model"),
    (jax.sharding.AxisType.Auto,) * 2,
    devices=found[:devices],
  )


def estimate(
  *,
  num_classes: int,
  dim: int,
  batch: int,
  mesh: jax.sharding.Mesh,
  tx: optax.GradientTransformation = OPTIMIZERS["momentum"],
  loss: objective.Objective = COSFACE,
  centers: int = 1,
  dtype: storage.Storage = "float32",
  state_dtype: storage.Storage = "float32",
  implementation: api.Implementation = "fused",
  **options: Any,
) -> Estimate:
  """Memory of `api.update`, from the compiled program; allocates nothing.

  Args:
    num_classes: as of `api.update`.
    dim: size of the embeddings.
    batch: examples a step, on all devices together.
    mesh: with axes "data" and "model"; its devices are compiled for.
    tx: the optimizer of the prototypes.
    loss: what is minimised.
    centers: k, sub-centres a class.
    dtype: how prototypes are kept; see `storage`.
    state_dtype: how what the optimizer keeps of each class is kept.
    implementation: as of `api.update`.
    **options: further ones of `api.update`: rate, block_size, saved_bytes,
      precision.

  Raises:
    ValueError: if the batch does not divide, or the implementation cannot work
      on such storage.
  """
  if batch % mesh.size:
    raise ValueError(
      f"batch={batch}: must be a multiple of the number of devices,"
      f" {mesh.size}, such as {-(-batch // mesh.size) * mesh.size}"
    )
  if implementation in ("chunked", "dense"):
    _require_float32(implementation, dtype, state_dtype)
  rows = api.padded_classes(num_classes, mesh.shape["model"])
  if implementation == "dense":
    # Shards of unequal sizes would cost it a copy of all logits.
    num_classes = rows
  arrays = _abstract(
    (rows, dim) if centers == 1 else (rows, centers, dim),
    batch,
    mesh=mesh,
    tx=tx,
    dtype=dtype,
    state_dtype=state_dtype,
  )

  def step(prototypes, opt_state, embeddings, labels, key):
    return api.update(
      prototypes,
      opt_state,
      embeddings,
      labels,
      tx=tx,
      objective=loss,
      num_classes=num_classes,
      mesh=mesh,
      implementation=implementation,
      key=key,
      **options,
    )

  key = jax.eval_shape(jax.random.key, 0)
  jitted = jax.jit(step, donate_argnums=(0, 1))
  compiled = jitted.lower(*arrays, key).compile()
  return Estimate(_buffers(compiled, *arrays), rows // mesh.shape["model"])


def growth(at: Callable[[int], Estimate], *, shards: int) -> Growth:
  """The line through the peaks of two programs.

  Args:
    at: `estimate` as a function of num_classes alone.
    shards: devices that the classes are split over.
  """
  rows = min(_MANY_ROWS, MAX_CLASSES // (2 * shards))
  small, large = (at(scale * rows * shards) for scale in (1, 2))
  per_class = (large.total - small.total) / rows
  return Growth(per_class, small.total - per_class * rows)


def _require_float32(implementation, dtype, state_dtype) -> None:
  for name, value in (("prototypes", dtype), ("state", state_dtype)):
    if value != "float32":
      raise ValueError(
        f"implementation={implementation!r} keeps its {name} in float32, not"
        f" {value}: use fused, partial_fc or sparse"
      )


def _abstract(shape, batch, *, mesh, tx, dtype, state_dtype):
  """Prototypes, optimizer state, embeddings and labels, none of them real."""

  def array(like, spec):
    placed = jax.NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=placed)

  values: Any = jax.ShapeDtypeStruct(shape, jnp.float32)
  prototypes = jax.eval_shape(
    functools.partial(storage.encode, dtype=dtype), values
  )
  opt_state = jax.eval_shape(
    functools.partial(api.init_optimizer, tx, dtype=state_dtype), prototypes
  )
  split = P(("data", "model"))
  return (
    array(prototypes, P("model")),
    jax.tree.map(
      lambda leaf, rows: array(leaf, P("model") if rows else P()),
      opt_state,
      rowwise.class_leaves(tx, values),
    ),
    array(jax.ShapeDtypeStruct((batch, shape[-1]), jnp.float32), split),
    array(jax.ShapeDtypeStruct((batch,), jnp.int32), split),
  )


def _buffers(compiled, prototypes, opt_state, embeddings, labels):
  """Bytes by name, of one device."""
  memory = compiled.memory_analysis()
  held = {"prototypes": _bytes(prototypes)}
  for path, leaf in jax.tree.leaves_with_path(opt_state):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    name = f"optimizer state: {name}"
    held[name] = held.get(name, 0) + _bytes(leaf)
  held["embeddings and labels"] = _bytes(embeddings) + _bytes(labels)
  new = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    **held,
    "gradient of the embeddings": _bytes(embeddings),
    "temporaries": memory.temp_size_in_bytes,
    # Values of each example, alignment; arrays that were not updated in place.
    "other": memory.argument_size_in_bytes
    - sum(held.values())
    + new
    - _bytes(embeddings),
  }


def _bytes(array) -> int:
  shard = array.sharding.shard_shape(array.shape)
  return math.prod(shard) * array.dtype.itemsize
