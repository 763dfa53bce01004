"""From a configuration to the functions of a run. Nothing here computes yet."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.head import api as head_api
from facejax.models import embed as embed_lib
from facejax.models import functional, lora
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import progress, typing
from facejax.training import (
  compatible,
  extra_terms,
  meshes,
  optimizers,
  state,
  teachers,
)
from facejax.training import config as config_lib
from facejax.training import step as train_step
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import ramp
from facejax.training.objectives import step as loss_step

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Program:
  """The compiled side of a run.

  Attributes:
    mesh: the devices.
    backbone: the net.
    head: over the classes; None for a loss within batches.
    like: the abstract train state, with shardings.
    init: key -> train state.
    step: jitted (state, images, labels) -> (state, metrics).
    embed: jitted (params, stats, images) -> embeddings.
    chance_loss: the loss of a net that has learnt nothing; None where that is
      not known.
    terms: of other runs, beside the loss; `step` has an argument more for each,
      what is frozen of it.
  """

  mesh: jax.sharding.Mesh
  backbone: functional.Backbone
  head: head_api.Head | None
  like: state.TrainState
  init: Callable[[typing.PRNGKey], state.TrainState]
  step: Any
  embed: Any
  chance_loss: float | None
  terms: Sequence[extra_terms.Term] = ()


def build(
  config: config_lib.Config,
  *,
  num_classes: int,
  total_steps: int,
  steps_per_epoch: int | None = None,
  among: Sequence[Any] | None = None,
  ramps: tuple[ramp.Ramp, ...] = (),
) -> Program:
  """Builds net, loss, optimizers and the jitted functions over the mesh.

  Args:
    config: of the run.
    num_classes: identities, and distractors.
    total_steps: of the schedule.
    steps_per_epoch: of a pass over the images, for lengths in passes; None
      where there is none.
    among: devices to choose from; None for those of this machine. For those of
      `runtime.topology` the program can be compiled, and no more.
    ramps: numbers of the loss that move from step to step.

  Raises:
    ValueError: if the parts do not fit together.
  """
  mesh = meshes.make(config, num_classes, among)
  mesh_lib.check_batch(config.batch_size, mesh, name="batch_size")
  if config.accumulate > 1:
    part = config.batch_size // config.accumulate
    mesh_lib.check_batch(part, mesh, name="batch_size / accumulate")
  backbone = functional.build(
    config.model.name,
    embedding_dim=config.model.embedding_dim,
    image_size=config.data.image_size,
    dropout=config.model.dropout,
    norm=config.model.norm,
    se=config.model.se,
    drop_path=config.model.drop_path,
    mask_ratio=config.model.mask_ratio,
    remat=config.model.remat,
    dtype=jnp.dtype(config.model.dtype),
    gradients=jnp.dtype(config.model.gradients),
    bn_group=config.model.bn_group,
    bn_frozen=config.model.bn_frozen,
  )
  backbone = lora.adapted(
    backbone, rank=config.model.lora, alpha=config.model.lora_alpha
  )
  optimizer = config.optim.at_batch(config.batch_size)
  length: Any = {
    "total_steps": total_steps,
    "steps_per_epoch": steps_per_epoch,
  }
  rate = optimizers.schedule(optimizer, **length)
  trunk_tx = optimizers.of_trunk(
    optimizer, rate, backbone, adapters=bool(config.model.lora)
  )
  for_head = optimizer.of_head()
  head_rate = optimizers.schedule(
    for_head, **length, warmup="optim.head.warmup"
  )
  head_tx = optimizers.of_head(for_head, head_rate)
  loss = _loss(config, num_classes, head_tx=head_tx, mesh=mesh, ramps=ramps)
  init = state.make_init(
    backbone,
    trunk_tx=trunk_tx,
    head_tx=head_tx,
    head=loss.head,
    definition=loss.definition,
    center_loss=bool(config.center.weight),
    memory=config.memory.size,
    average=config.optim.averages,
  )
  like = state.abstract(init, head_tx=head_tx, mesh=mesh)
  terms = _terms(config, mesh, num_classes)
  step = train_step.make_train_step(
    backbone,
    loss.step,
    trunk_tx=trunk_tx,
    schedules={"learning_rate": rate}
    | ({"head_learning_rate": head_rate} if for_head != optimizer else {}),
    like=like,
    mesh=mesh,
    seed=config.seed,
    accumulate=config.accumulate,
    average=optimizers.average(optimizer),
    terms=[term.gradient for term in terms],
    skip_nonfinite=config.on_nonfinite == "skip",
  )
  return Program(
    mesh=mesh,
    backbone=backbone,
    head=loss.head,
    like=like,
    init=init,
    step=step,
    embed=embed_lib.make_embed(backbone, mesh=mesh),
    chance_loss=loss.chance,
    terms=terms,
  )


def compiled(
  config: config_lib.Config, program: Program
) -> jax.stages.Compiled:
  """The training step, compiled ahead for the run's shapes."""
  where = mesh_lib.sharding(program.mesh, mesh_lib.BATCH)
  shape = (config.batch_size, *config.data.image_size, 3)
  images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=where)
  labels = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=where)
  started = time.monotonic()
  frozen = [term.like for term in program.terms]
  done = program.step.lower(program.like, images, labels, *frozen).compile()
  spent = progress.duration(time.monotonic() - started)
  logger.info("compiled in %s", spent)
  return done


def _terms(
  config: config_lib.Config, mesh: jax.sharding.Mesh, num_classes: int
) -> list[extra_terms.Term]:
  """What other runs add to the loss."""
  found = []
  if config.distill:
    found.append(teachers.build(config, mesh))
  if config.compatible_with:
    found.append(compatible.build(config, mesh, num_classes=num_classes))
  return found


@dataclasses.dataclass(frozen=True)
class _Loss:
  """The loss's side of a run.

  Attributes:
    definition: what the loss carries; None for a loss within batches.
    head: over its classes; likewise.
    step: from embeddings to their gradient, prototypes updated on the way.
    chance: the loss of a net that has learnt nothing, if that is known.
  """

  definition: definition_lib.Definition | None
  head: head_api.Head | None
  step: loss_step.LossStep
  chance: float | None


def _loss(
  config: config_lib.Config,
  num_classes: int,
  *,
  head_tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  ramps: tuple[ramp.Ramp, ...],
) -> _Loss:
  """The loss that a configuration asks for, with its head if it has one."""
  if isinstance(config.loss, definition_lib.WithinBatch):
    step = loss_step.within_batch(
      config.loss.function(mesh=mesh),
      seed=config.seed,
      memory_from=config.memory.start,
    )
    return _Loss(None, None, step, None)
  assert isinstance(config.loss, definition_lib.OverClasses)
  definition = ramp.applied(config.loss.definition(num_classes), ramps)
  head = _head(config.head, definition, num_classes, tx=head_tx, mesh=mesh)
  center_loss = None
  if config.center.weight:
    center_loss = definition_lib.CenterLoss(
      config.center.weight, config.center.rate
    )
  step = loss_step.over_classes(
    head,
    definition=definition,
    seed=config.seed,
    center_loss=center_loss,
    skip_nonfinite=config.on_nonfinite == "skip",
  )
  # A net that has learnt nothing finds all classes that count equally likely:
  # log C for softmax; partial_fc counts a share of them.
  counted = num_classes
  if head.implementation == "partial_fc":
    counted = max(2, round(head.rate * num_classes))
  chance = definition_lib.chance_loss(definition, num_classes=counted)
  return _Loss(definition, head, step, chance)


def _head(
  options: config_lib.HeadConfig,
  definition: definition_lib.Definition,
  num_classes: int,
  *,
  tx: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
) -> head_api.Head:
  """The head of a loss over classes, as configured."""
  threshold = options.interclass_filtering_threshold
  objective = dataclasses.replace(
    definition.objective, interclass_filtering_threshold=threshold
  )
  return head_api.Head(
    objective,
    num_classes,
    mesh,
    tx=tx,
    implementation=options.implementation,
    rate=options.rate,
    block_size=options.block_size,
    saved_bytes=options.saved_mib * 2**20,
    precision=options.precision,
    centers=definition.centers,
    storage=options.storage,
    optimizer_storage=options.optimizer_storage,
  )
