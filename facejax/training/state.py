"""Everything that training changes, and where it lies on the mesh."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.head import api as head_api
from facejax.models import functional
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing
from facejax.training.objectives import definition as definition_lib


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of a run; all randomness follows from (seed, step).

  Attributes:
    step: int32, updates done.
    params: the trunk's weights.
    stats: the trunk's running BatchNorm statistics.
    average: a running average of the weights, or None.
    prototypes: [rows, dim], the class weight matrix, float32 or the bits of
      bfloat16; rows beyond the true class count are zero. None for a loss
      without classes.
    trunk_optimizer: optimizer state of the trunk.
    head_optimizer: optimizer state of the prototypes, split like them; or
      None.
    loss: what the loss carries.
  """

  step: typing.Array
  params: typing.Params
  stats: typing.Params
  average: typing.Params | None
  prototypes: typing.Array | None
  trunk_optimizer: optax.OptState
  head_optimizer: optax.OptState | None
  loss: definition_lib.LossState

  @property
  def verified(self) -> typing.Params:
    """The weights to embed with: the average, if there is one."""
    return self.params if self.average is None else self.average


def has_class_axis(path: str) -> bool:
  """Whether a leaf, by its path, may have rows of classes (and padding).

  >>> has_class_axis(".prototypes"), has_class_axis(".params['linear']")
  (True, False)
  """
  return path.startswith((".prototypes", ".head_optimizer", ".loss.centers"))


def make_init(
  backbone: functional.Backbone,
  *,
  trunk_tx: optax.GradientTransformation,
  head_tx: optax.GradientTransformation,
  head: head_api.Head | None,
  definition: definition_lib.Definition | None,
  center_loss: bool = False,
  memory: int = 0,
  average: bool = False,
) -> Callable[[typing.PRNGKey], TrainState]:
  """The function key -> TrainState at step 0, to be jitted by `create`.

  Args:
    backbone: the net.
    trunk_tx: its optimizer.
    head_tx: the optimizer of what the loss itself learns; the head's.
    head: over the classes; None for a loss within batches.
    definition: the loss over classes; likewise.
    center_loss: keep a centre for each class.
    memory: how many past embeddings to keep; 0 for none.
    average: keep an average of the weights.
  """

  def init(key: typing.PRNGKey) -> TrainState:
    trunk_key, head_key = jax.random.split(key)
    params, stats = backbone.init(trunk_key)
    dtype = jax.tree.leaves(params)[0].dtype
    prototypes = head_optimizer = centers = None
    if head is not None:
      prototypes = head.init_prototypes(head_key, dim=backbone.embedding_dim)
      if head.storage == "float32":
        # In double precision where the trunk is.
        prototypes = prototypes.astype(dtype)
      head_optimizer = head.init_optimizer(prototypes)
      if center_loss:
        centers = (prototypes.shape[0], backbone.embedding_dim)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      stats=stats,
      average=jax.tree.map(jnp.copy, params) if average else None,
      prototypes=prototypes,
      trunk_optimizer=trunk_tx.init(params),
      head_optimizer=head_optimizer,
      loss=definition_lib.init(
        definition,
        tx=head_tx,
        dtype=dtype,
        centers=centers,
        memory=(memory, backbone.embedding_dim) if memory else None,
      ),
    )

  return init


def abstract(
  init: Callable[[typing.PRNGKey], TrainState],
  *,
  head_tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
) -> TrainState:
  """Shapes, types and shardings of the state, without allocating it.

  Under automatic sharding, jit(optimizer.init) would put the whole state of
  the head on one device; so its placement is spelled out leaf by leaf.
  """
  shapes: Any = jax.eval_shape(init, jax.random.key(0))
  replicated = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  by_class = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  placement = jax.tree.map(lambda _: replicated, shapes)
  if shapes.prototypes is not None:
    placement = dataclasses.replace(
      placement,
      prototypes=by_class,
      head_optimizer=optax.tree_map_params(
        head_tx,
        lambda _: by_class,
        shapes.head_optimizer,
        transform_non_params=lambda _: replicated,
      ),
    )
  if shapes.loss.centers is not None:
    placement = dataclasses.replace(
      placement, loss=placement.loss._replace(centers=by_class)
    )
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    shapes,
    placement,
  )


def create(
  init: Callable[[typing.PRNGKey], TrainState], like: TrainState, *, seed: int
) -> TrainState:
  """The state at step 0, each part made on the device where it lives."""
  shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
  return jax.jit(init, out_shardings=shardings)(jax.random.key(seed))


def with_net(
  state: TrainState, params: typing.Params, stats: typing.Params
) -> TrainState:
  """The state with another net's weights, and the average starting from them."""
  average = None
  if state.average is not None:
    average = jax.tree.map(jnp.copy, params)
  return dataclasses.replace(state, params=params, stats=stats, average=average)
