"""Entry point of the head: prototypes, the loss over them, and its step."""

import dataclasses
from typing import Literal

import jax
import optax

from facejax.head import (
  fused_update,
  initial,
  plain_update,
  reference,
  rowwise,
  sharded,
  tables,
)
from facejax.head import objective as objective_lib
from facejax.head import options as options_lib
from facejax.head import storage as storage_lib
from facejax.losses import choices, margins
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing

Implementation = options_lib.Implementation
Precision = options_lib.Precision
HeadState = plain_update.HeadState
Update = plain_update.Update

_NONE = objective_lib.Parameters()


@dataclasses.dataclass(frozen=True)
class Head(options_lib.Options):
  """A classification head: every option is explained at `options.Options`.

  It holds no arrays: prototypes and optimizer state come and go as `State`.
  Built once, it serves to start them, to differentiate the loss, and to take
  whole steps.

  >>> from facejax.runtime import mesh
  >>> objective = objective_lib.Objective(margins.nsl, scale=16.0)
  >>> head = Head(objective, 10, mesh.make_mesh(devices=1), tx=optax.sgd(1.0))
  >>> state = head.init(jax.random.key(0), dim=4)
  >>> embeddings, labels = jax.numpy.eye(4), jax.numpy.arange(4)
  >>> loss, update = jax.jit(head.loss), jax.jit(head.update)
  >>> before = loss(state.prototypes, embeddings, labels)
  >>> state = update(state, embeddings, labels).state
  >>> after = loss(state.prototypes, embeddings, labels)
  >>> bool(after.loss.mean() < before.loss.mean())
  True
  """

  def init(self, key: typing.PRNGKey, *, dim: int) -> HeadState:
    """Prototypes for embeddings [batch, dim], and their optimizer state."""
    prototypes = self.init_prototypes(key, dim=dim)
    return HeadState(prototypes, self.init_optimizer(prototypes))

  def init_prototypes(self, key: typing.PRNGKey, *, dim: int) -> typing.Array:
    """Prototypes N(0, 0.01^2), the same on any mesh.

    Args:
      key: of the run; row j is drawn from (key, class id j) alone.
      dim: size of the embeddings.

    Returns:
      [rows, (k,) dim], sharded P("model"), one longer with a bias; rows beyond
      num_classes are zero.
    """
    return initial.prototypes(self, key, dim=dim)

  def init_optimizer(self, prototypes: typing.Array) -> optax.OptState:
    """The optimizer state of such prototypes.

    Raises:
      ValueError: if the head has no optimizer.
    """
    return initial.optimizer_state(self, self._optimizer(), prototypes)

  def loss(
    self,
    prototypes: typing.Array,
    embeddings: typing.Array,
    labels: typing.Array,
    *,
    parameters: objective_lib.Parameters = _NONE,
  ) -> objective_lib.HeadOutput:
    """The exact loss of a batch over all classes, to be differentiated.

    Whatever `update` samples, all classes count here. Blockwise, so that memory
    beside the prototypes and their gradient does not grow with the classes;
    "dense" writes the logits out.

    Args:
      prototypes: [rows >= num_classes, (k,) dim] float32.
      embeddings: [batch, dim].
      labels: int [batch]; outside [0, num_classes) they name no class, see
        `Objective`.
      parameters: numbers of each example that the objective depends on.

    Returns:
      Loss, target cosine and hit for each example.

    Raises:
      ValueError: if there are fewer rows than classes, they are bits,
        labels are no whole numbers, or the batch does not divide by the devices
        (but for "dense").
    """
    self._check_rows(prototypes)
    labels = choices.labels(labels)
    # Bits are integers, which have no gradient.
    kept = storage_lib.bits_of(prototypes)
    if kept is not None:
      raise ValueError(
        f"the loss of implementation={self.implementation!r} needs float32"
        f" prototypes, not {kept}: `storage.load` them, or take the step with"
        " `Head.update` of fused, partial_fc or sparse"
      )
    if self.objective.table is not None:
      return tables.loss(
        prototypes,
        embeddings,
        labels,
        table=self.objective.table,
        num_classes=self.num_classes,
      )
    if self.implementation == "dense":
      return reference.loss(
        prototypes[: self.num_classes],
        embeddings,
        labels,
        objective=self.objective,
        parameters=parameters,
      )
    mesh_lib.check_batch(embeddings.shape[0], self.mesh)
    return sharded.loss(
      self, prototypes, embeddings, labels, parameters=parameters
    )

  def update(
    self,
    state: HeadState,
    embeddings: typing.Array,
    labels: typing.Array,
    *,
    parameters: objective_lib.Parameters = _NONE,
    key: typing.PRNGKey | None = None,
    finite_with: typing.Array | None = None,
  ) -> Update:
    """One step on the mean loss of a batch.

    Donate the state to the enclosing jit, or it is copied.

    Args:
      state: of `init`, or of the step before.
      embeddings: [batch, dim].
      labels: int [batch]; outside [0, num_classes) they name no class, see
        `Objective`.
      parameters: numbers of each example that the objective depends on.
      key: of this step; for partial_fc and for storage that rounds.
      finite_with: a scalar; where the mean loss together with it is not
        finite, prototypes and optimizer state stay as they are, but for counts
        of steps. None takes every step. Not for "pallas".

    Returns:
      Values of each example, gradients for embeddings and parameters, and the
      new state.

    Raises:
      ValueError: if the head has no optimizer or one that mixes classes where
        it may not, there are fewer rows than classes, a key is missing, labels
        are no whole numbers, or the batch does not divide, as for `loss`.
    """
    tx = self._optimizer()
    self._check_rows(state.prototypes)
    labels = choices.labels(labels)
    # All of the gradient dL/dW, then the optimizer: any optimizer will do.
    if self.updates_whole:

      def loss(
        prototypes: typing.Array,
        embeddings: typing.Array,
        parameters: objective_lib.Parameters,
      ) -> objective_lib.HeadOutput:
        return self.loss(prototypes, embeddings, labels, parameters=parameters)

      return plain_update.value_and_update(
        loss, state, embeddings, parameters, tx=tx, finite_with=finite_with
      )
    # A block's update must be that of its rows within all of W.
    rowwise.require(tx, dim=storage_lib.shape(state.prototypes)[-1])
    mesh_lib.check_batch(embeddings.shape[0], self.mesh)
    return fused_update.value_and_update(
      self,
      state,
      embeddings,
      labels,
      tx=tx,
      parameters=parameters,
      key=key,
      finite_with=finite_with,
    )

  def target_cosine(
    self,
    prototypes: typing.Array,
    embeddings: typing.Array,
    labels: typing.Array,
  ) -> typing.Array:
    """cos theta_y alone, [batch]: costs the rows of the batch's classes.

    For losses whose margins depend on it. Arguments as for `loss`, prototypes
    as they are kept. Carries no gradient.

    Raises:
      ValueError: if the batch does not divide by the devices, or labels are no
        whole numbers.
    """
    mesh_lib.check_batch(embeddings.shape[0], self.mesh)
    return sharded.target_cosine(
      self, prototypes, embeddings, choices.labels(labels)
    )

  def _optimizer(self) -> optax.GradientTransformation:
    if self.tx is None:
      raise ValueError(
        "tx=None: this head has no optimizer, so that it has a loss alone;"
        " build it with tx, such as optax.sgd(0.1)"
      )
    return self.tx

  def _check_rows(self, prototypes: typing.Array) -> None:
    if prototypes.shape[0] < self.num_classes:
      raise ValueError(
        f"prototypes have {prototypes.shape[0]} rows, fewer than"
        f" num_classes={self.num_classes}"
      )


def init_prototypes(
  key: typing.PRNGKey,
  *,
  num_classes: int,
  dim: int,
  mesh: jax.sharding.Mesh,
  centers: int = 1,
  bias: bool = False,
  dtype: storage_lib.Storage = "float32",
) -> typing.Array:
  """`Head.init_prototypes` of a head that is built on the spot."""
  # Of the objective, only its bias says anything about their shape.
  head = Head(
    objective_lib.Objective(
      margins.nsl, scale=None, unit_prototypes=False, bias=bias
    ),
    num_classes,
    mesh,
    centers=centers,
    storage=dtype,
  )
  return head.init_prototypes(key, dim=dim)


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
  """`Head.loss` of a head that is built on the spot; both are exact."""
  head = Head(
    objective,
    num_classes,
    mesh,
    implementation=implementation,
    block_size=block_size,
    precision=precision,
  )
  return head.loss(prototypes, embeddings, labels, parameters=parameters)
