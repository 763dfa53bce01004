"""Entry point of the head: prototypes, the loss over them, and its step."""

from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax

from facejax.head import (
  fused_update,
  reference,
  rowwise,
  selection,
  sharded,
  storage,
)
from facejax.head import objective as objective_lib
from facejax.runtime import typing

Implementation: TypeAlias = Literal[
  "fused", "chunked", "dense", "partial_fc", "sparse"
]
Precision: TypeAlias = Literal["float32", "bfloat16"]

_CLASSES: dict[str, selection.Classes] = {
  "fused": "all",
  "partial_fc": "sampled",
  "sparse": "probable",
}
_NONE = objective_lib.Parameters()

# Classes whose random rows are drawn at once: bounds the extra memory.
_INIT_BLOCK = 65_536


def padded_classes(num_classes: int, shards: int) -> int:
  """Rows of the prototype matrix: num_classes, rounded up to the shards.

  >>> padded_classes(1183, 8)
  1184
  """
  return -(-num_classes // shards) * shards


def init_prototypes(
  key: typing.PRNGKey,
  *,
  num_classes: int,
  dim: int,
  mesh: jax.sharding.Mesh,
  centers: int = 1,
  bias: bool = False,
  dtype: storage.Storage = "float32",
) -> typing.Array:
  """Prototypes N(0, 0.01^2), row j drawn from (key, class id j) alone.

  So the start does not depend on the mesh. Each device draws its own rows, in
  blocks: no more than the result itself is ever held.

  Args:
    key: of the run.
    num_classes: the true number of classes.
    dim: size of the embeddings.
    mesh: with axis "model".
    centers: k, sub-centres a class.
    bias: one more column, of zeros, for `Objective.bias`.
    dtype: how they are kept; see `storage`.

  Returns:
    [padded_classes(num_classes, mesh.shape["model"]), dim], or with k > 1
    [..., k, dim], sharded P("model"); rows beyond num_classes are zero and stay so in training.
  """
  rows = padded_classes(num_classes, mesh.shape["model"])

  def row(class_id):
    shape = (dim,) if centers == 1 else (centers, dim)
    value = 0.01 * jax.random.normal(jax.random.fold_in(key, class_id), shape)
    value = jnp.where(class_id < num_classes, value, 0)
    value = jnp.pad(value, [(0, 0)] * (value.ndim - 1) + [(0, int(bias))])
    return storage.encode(value, dtype)

  def on_shard(class_ids):
    block = min(class_ids.shape[0], _INIT_BLOCK)
    return jax.lax.map(row, class_ids, batch_size=block)

  spec = jax.P("model")
  draw = jax.shard_map(on_shard, mesh=mesh, in_specs=spec, out_specs=spec)
  return draw(jnp.arange(rows))


def init_optimizer(
  tx: optax.GradientTransformation,
  prototypes: typing.Array,
  *,
  dtype: storage.Storage = "float32",
) -> optax.OptState:
  """The optimizer state of prototypes; leaves with class rows in `dtype`."""
  values = storage.load(prototypes)
  return jax.tree.map(
    lambda by_class, leaf: storage.encode(leaf, dtype) if by_class else leaf,
    rowwise.class_leaves(tx, values),
    tx.init(values),
  )


def head_loss(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  parameters: objective_lib.Parameters = _NONE,
  implementation: Literal["chunked", "dense"] = "chunked",
  block_size: int | None = None,
  precision: Precision = "float32",
) -> objective_lib.HeadOutput:
  """The loss of a batch over all classes, to be differentiated.

  Args:
    prototypes: [rows, (k,) dim] float32, rows >= num_classes, sharded by
      class; k sub-centres a class, of which the nearest stands for it.
    embeddings: [batch, dim].
    labels: int [batch].
    objective: see there.
    num_classes: the true number of classes.
    mesh: with axes "data" and "model".
    parameters: numbers of each example that the objective depends on.
    implementation: "chunked" makes the logits block by block, and again in
      the backward pass, so that memory beside the prototypes and their
      gradient does not grow with the classes; "dense" writes all logits out
      on every device and is the specification. Both are exact.
    block_size: classes a block; None for the rule of `blocks.block_size`.
    precision: of the operands of the matmuls; for accelerators.

  Returns:
    Loss, target cosine and hit for each example.

  Raises:
    ValueError: if the implementation is unknown or there are fewer rows than
      classes.
  """
  _check(prototypes, num_classes, implementation, ("chunked", "dense"))
  if prototypes.dtype == jnp.uint16:
    raise ValueError(
      f"implementation={implementation!r} needs float32 prototypes, not"
      " bfloat16: use fused, partial_fc or sparse"
    )
  if implementation == "dense":
    return reference.loss(
      prototypes[:num_classes],
      embeddings,
      labels,
      objective=objective,
      parameters=parameters,
    )
  return sharded.loss(
    prototypes,
    embeddings,
    labels,
    objective=objective,
    num_classes=num_classes,
    mesh=mesh,
    parameters=parameters,
    block_size=block_size,
    bfloat16=precision == "bfloat16",
  )


def update(
  prototypes: typing.Array,
  opt_state: optax.OptState,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  tx: optax.GradientTransformation,
  objective: objective_lib.Objective,
  num_classes: int,
  mesh: jax.sharding.Mesh,
  parameters: objective_lib.Parameters = _NONE,
  implementation: Implementation = "fused",
  rate: float = 0.1,
  key: typing.PRNGKey | None = None,
  block_size: int | None = None,
  saved_bytes: int = 0,
  precision: Precision = "float32",
) -> fused_update.Update:
  """One step of the head on the mean loss of a batch.

  Args:
    prototypes: as for `head_loss`, or bfloat16 (see `storage`), except for
      chunked and dense.
    opt_state: of `init_optimizer`.
    embeddings: [batch, dim].
    labels: int [batch].
    tx: the optimizer of the prototypes.
    objective: see there.
    num_classes: the true number of classes.
    mesh: with axes "data" and "model".
    parameters: numbers of each example that the objective depends on.
    implementation: exact are "fused", which applies the optimizer to each
      block of the gradient as soon as it is made; "chunked" and "dense", as
      for `head_loss`, with the optimizer applied to the whole gradient. Not
      exact are "partial_fc", which counts and updates the classes of the
      batch and a sampled share `rate` of the others; and "sparse", whose loss
      is exact and whose gradient goes to the classes of the batch and a share
      `rate` of the most probable others (the rest is `HeadOutput.dropped`).
    rate: see above.
    key: of this step; for partial_fc and for bfloat16 storage.
    block_size: classes a block; None for the rule of `blocks.block_size`.
    saved_bytes: room on each device to keep exponentials of the forward pass
      for the backward pass (fused only).
    precision: of the operands of the matmuls; for accelerators.

  Returns:
    Values of each example, gradients for embeddings and parameters, new
    prototypes and optimizer state.

  Raises:
    ValueError: if the implementation is unknown, the optimizer mixes classes
      where it may not, a key is missing, or the rate is outside (0, 1].
  """
  _check(prototypes, num_classes, implementation, get_args(Implementation))
  common = {
    "objective": objective,
    "num_classes": num_classes,
    "mesh": mesh,
    "block_size": block_size,
  }
  if implementation in _CLASSES:
    return fused_update.value_and_update(
      prototypes,
      opt_state,
      embeddings,
      labels,
      tx=tx,
      parameters=parameters,
      classes=_CLASSES[implementation],
      rate=rate,
      key=key,
      saved_bytes=saved_bytes,
      bfloat16=precision == "bfloat16",
      **common,
    )

  plain: Any = implementation

  def mean_loss(prototypes, embeddings, parameters):
    output = head_loss(
      prototypes,
      embeddings,
      labels,
      parameters=parameters,
      implementation=plain,
      precision=precision,
      **common,
    )
    return output.loss.mean(), output

  gradients, output = jax.grad(mean_loss, (0, 1, 2), has_aux=True)(
    prototypes, embeddings, parameters
  )
  updates, opt_state = tx.update(gradients[0], opt_state, prototypes)
  moved: Any = optax.apply_updates(prototypes, updates)
  return fused_update.Update(
    output,
    gradients[1],
    gradients[2],
    moved,
    opt_state,
  )


def _check(prototypes, num_classes, implementation, choices) -> None:
  if prototypes.shape[0] < num_classes:
    raise ValueError(
      f"prototypes have {prototypes.shape[0]} rows, fewer than"
      f" num_classes={num_classes}"
    )
  if implementation not in choices:
    raise ValueError(
      f"implementation={implementation!r}: choose one of {choices}"
    )
