"""How much memory the head will need, before anything is allocated.

The step is compiled for arrays that do not exist, and the compiler is asked.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from facejax.head import api, objective, options, rowwise
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import program_text, topology

P = jax.P

_DECAY = optax.add_decayed_weights(5e-4)
# Those of the trainer, and "momentum" for its sgd with one; what they hold does
# not depend on their numbers.
OPTIMIZERS: Mapping[str, optax.GradientTransformation] = {
  "momentum": optax.chain(_DECAY, optax.sgd(0.1, momentum=0.9)),
  "sgd": optax.chain(_DECAY, optax.sgd(0.1)),
  "adagrad": optax.adagrad(0.1),
  "adamw": optax.adamw(1e-3),
  "lion": optax.lion(1e-4),
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
    collectives: what crosses the mesh in a step.
    cycles: of a step, as a TPU's compiler expects them; else 0.
    refused: what the compiler says where the program does not fit; the buffers
      are then those that any program would have.
  """

  buffers: dict[str, int]
  rows: int
  collectives: Sequence[program_text.Collective] = ()
  cycles: int = 0
  refused: str = ""

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
    return min(max(rows, 0) * shards, options.MAX_CLASSES)


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
  return mesh_lib.lay_out(found[:devices], model=model)


def estimate(head: api.Head, *, dim: int, batch: int) -> Estimate:
  """Memory of `Head.update`, from the compiled program; allocates nothing.

  Args:
    head: with an optimizer; the devices of its mesh are compiled for.
    dim: size of the embeddings.
    batch: examples a step, on all devices together.

  Raises:
    ValueError: if the batch does not divide.
  """
  mesh_lib.check_batch(batch, head.mesh)
  rows = head.rows // head.shards
  if head.implementation == "dense":
    # Shards of unequal sizes would cost it a copy of all logits.
    head = dataclasses.replace(head, num_classes=head.rows)
  held = _held(*_abstract(head, dim=dim, batch=batch))
  try:
    compiled = compile_step(head, dim=dim, batch=batch)
  except jax.errors.JaxRuntimeError as error:
    said = topology.does_not_fit(error)
    if said is None:
      raise
    return Estimate(held, rows, refused=said)
  text = program_text.ProgramText(compiled.as_text() or "")
  return Estimate(
    _buffers(compiled, held),
    rows,
    collectives=text.collectives(head.mesh),
    cycles=text.cycles(),
  )


def compile_step(
  head: api.Head, *, dim: int, batch: int
) -> jax.stages.Compiled:
  """`Head.update`, compiled as training does; arguments as of `estimate`."""
  return traced_step(head, dim=dim, batch=batch).lower().compile()


def traced_step(head: api.Head, *, dim: int, batch: int) -> jax.stages.Traced:
  """`Head.update` as training jits it, for arrays that do not exist.

  Arguments and errors as of `estimate`.
  """
  mesh_lib.check_batch(batch, head.mesh)
  state, embeddings, labels = _abstract(head, dim=dim, batch=batch)

  def step(
    state: api.HeadState, embeddings: Any, labels: Any, key: Any
  ) -> api.Update:
    return head.update(state, embeddings, labels, key=key)

  key = jax.eval_shape(jax.random.key, 0)
  # The state is donated, so that it is updated in place.
  jitted = jax.jit(step, donate_argnums=0)
  return jitted.trace(state, embeddings, labels, key)


def growth(head: api.Head, *, dim: int, batch: int) -> Growth:
  """The line through the peaks of two programs, of many classes.

  Arguments as of `estimate`; how many classes the head has plays no part.
  """
  rows = min(_MANY_ROWS, options.MAX_CLASSES // (2 * head.shards))
  chip = topology.chip_of(head.mesh.devices.flat[0])
  if chip is not None:
    # Both must fit, twice in float32 and once more for what is made on the way.
    wide = 16 * dim * head.centers
    rows = min(rows, 2 ** math.floor(math.log2(chip.memory / 4 / wide)))

  def total(classes: int) -> int:
    larger = dataclasses.replace(head, num_classes=classes)
    return estimate(larger, dim=dim, batch=batch).total

  # Twice as many classes, and all else equal: the difference is the classes'.
  small, large = (total(scale * rows * head.shards) for scale in (1, 2))
  per_class = (large - small) / rows
  return Growth(per_class, small - per_class * rows)


def _abstract(head: api.Head, *, dim: int, batch: int) -> tuple[Any, Any, Any]:
  """The head's state, embeddings and labels, none of them real."""

  def array(like: Any, spec: jax.sharding.PartitionSpec) -> Any:
    placed = jax.NamedSharding(head.mesh, spec)
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=placed)

  key = jax.eval_shape(jax.random.key, 0)
  shapes: Any = jax.eval_shape(functools.partial(head.init, dim=dim), key)
  assert head.tx is not None  # or there would be no state
  flags: Any = True, rowwise.class_leaves(head.tx, shapes.prototypes)
  split = P(("data", "model"))
  return (
    jax.tree.map(
      lambda leaf, rows: array(leaf, P("model") if rows else P()),
      shapes,
      api.HeadState(*flags),
    ),
    array(jax.ShapeDtypeStruct((batch, dim), jnp.float32), split),
    array(jax.ShapeDtypeStruct((batch,), jnp.int32), split),
  )


def _held(state: Any, embeddings: Any, labels: Any) -> dict[str, int]:
  """Bytes by name of what a step is given and gives back, on one device."""
  held = {"prototypes": _bytes(state.prototypes)}
  for path, leaf in jax.tree.leaves_with_path(state.optimizer):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    name = f"optimizer state: {name}"
    held[name] = held.get(name, 0) + _bytes(leaf)
  held["embeddings and labels"] = _bytes(embeddings) + _bytes(labels)
  held["gradient of the embeddings"] = _bytes(embeddings)
  return held


def _buffers(
  compiled: jax.stages.Compiled, held: dict[str, int]
) -> dict[str, int]:
  """Bytes by name, of one device, of a whole program."""
  memory: Any = compiled.memory_analysis()
  new = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    **held,
    "temporaries": memory.temp_size_in_bytes,
    # Values of each example, alignment; arrays that were not updated in place.
    "other": memory.argument_size_in_bytes + new - sum(held.values()),
  }


def _bytes(array: Any) -> int:
  """What one device holds of it."""
  shard = array.sharding.shard_shape(array.shape)
  return math.prod(shard) * array.dtype.itemsize
