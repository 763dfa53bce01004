"""From a configuration to the parts of a run. Nothing here computes yet."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax import (
  build_loss,
  optim,
  presets,
  train_state,
  train_step,
  typing,
)
from facejax import config as config_lib
from facejax import goal as goal_lib
from facejax import mesh as mesh_lib
from facejax.data import (
  folder,
  lfw,
  pairs,
  pipeline,
  sources,
  synthetic,
  transforms,
)
from facejax.head import api as head_api
from facejax.head import sharded
from facejax.models import functional

# Identities from here on are never trained on.
UNSEEN_IDENTITY = 1_000_000
# Apart from the seed of the training images.
_PAIR_SEED = 1


@dataclasses.dataclass(frozen=True)
class Program:
  """The compiled side of a run.

  Attributes:
    mesh: the devices.
    backbone: the net.
    like: the abstract train state, with shardings.
    init: key -> train state.
    step: jitted (state, images, labels) -> (state, metrics).
    embed: jitted (params, stats, images) -> embeddings.
    chance_loss: the loss of a net that has learnt nothing.
  """

  mesh: jax.sharding.Mesh
  backbone: functional.Backbone
  like: train_state.TrainState
  init: Callable[[typing.PRNGKey], train_state.TrainState]
  step: Any
  embed: Any
  chance_loss: float


def training_images(config: config_lib.Config) -> sources.Source:
  """The training source that `config.data` describes.

  Raises:
    ValueError, FileNotFoundError: if there is nothing to train on.
  """
  data = config.data
  _check_presence(data.path, data.identities, config.eval.pairs)
  if data.source == "synthetic":
    source = synthetic.SyntheticFaces(
      num_identities=data.num_identities,
      images_per_identity=data.images_per_identity,
      seed=config.seed,
      image_size=data.image_size,
    )
  else:
    source = folder.ImageFolder(
      data.path,
      image_size=data.image_size,
      identities=lfw.read_identities(data.identities)
      if data.identities
      else None,
      min_images=data.min_images,
      crop=data.crop,
      max_bad_share=data.max_bad_share,
    )
  return sources.CachedSource(source) if data.cache else source


def verification_pairs(
  config: config_lib.Config,
) -> tuple[pairs.PairSet | None, pairs.PairSet | None]:
  """The pairs to verify on, and those that a threshold is chosen on."""
  data, evaluation = config.data, config.eval
  if evaluation.pairs:
    read = functools.partial(
      pairs.lfw_pairs,
      root=evaluation.path or data.path,
      image_size=data.image_size,
      crop=data.crop,
    )
    chosen_on = evaluation.threshold_pairs
    return read(evaluation.pairs), read(chosen_on) if chosen_on else None
  if data.source != "synthetic":
    return None, None
  unseen = synthetic.SyntheticFaces(
    num_identities=max(20, evaluation.num_pairs // 20),
    images_per_identity=10,
    first_identity=UNSEEN_IDENTITY,
    seed=config.seed,
    image_size=data.image_size,
  )
  held_out = pairs.random_pairs(
    sources.CachedSource(unseen),
    num_pairs=evaluation.num_pairs,
    seed=config.seed + _PAIR_SEED,
    name="unseen identities",
  )
  return held_out, None


def augmentation(data: config_lib.DataConfig) -> transforms.Augment:
  """The random changes that every training image goes through."""
  return transforms.Augment(
    flip=data.flip,
    shift=data.shift,
    zoom=data.zoom,
    rotate=data.rotate,
    brightness=data.brightness,
    contrast=data.contrast,
    erase=data.erase,
  )


def total_steps(config: config_lib.Config, num_images: int) -> int:
  """The length of the run."""
  if config.steps is not None:
    return config.steps
  assert config.epochs is not None  # validation: exactly one is given
  per_epoch = pipeline.steps_per_epoch(num_images, config.batch_size)
  return max(1, round(config.epochs * per_epoch))


def schedule(
  optimizer: config_lib.OptimConfig, *, total_steps: int
) -> optax.Schedule:
  """The learning-rate schedule of a run of this many steps."""
  return optim.make_schedule(
    optimizer.schedule,
    learning_rate=optimizer.learning_rate,
    total_steps=total_steps,
    warmup_steps=round(optimizer.warmup * total_steps),
    milestones=[round(mark * total_steps) for mark in optimizer.milestones],
    decay_factor=optimizer.decay_factor,
    power=optimizer.power,
  )


def program(
  config: config_lib.Config,
  *,
  num_classes: int,
  total_steps: int,
) -> Program:
  """Builds net, loss, optimizers and the jitted functions over the mesh.

  Raises:
    ValueError: if the parts do not fit together.
  """
  mesh = mesh_lib.make_mesh(
    devices=config.mesh.devices, model=config.mesh.model
  )
  _check_batch(config.batch_size, mesh.size)
  backbone = functional.build(
    config.model.name,
    embedding_dim=config.model.embedding_dim,
    image_size=config.data.image_size,
    dropout=config.model.dropout,
    dtype=jnp.dtype(config.model.dtype),
  )
  rate = schedule(config.optim, total_steps=total_steps)
  optimizer = functools.partial(
    optim.sgd,
    rate,
    momentum=config.optim.momentum,
    nesterov=config.optim.nesterov,
    weight_decay=config.optim.weight_decay,
  )
  trunk_tx = optimizer(clip_norm=config.optim.clip_norm or None)
  head_tx = optimizer()
  head = config.head
  goal = build_loss.build(config.loss, num_classes=num_classes)
  center_loss = None
  if config.center.weight:
    center_loss = goal_lib.CenterLoss(config.center.weight, config.center.rate)
  init = train_state.make_init(
    backbone,
    trunk_tx=trunk_tx,
    head_tx=head_tx,
    num_classes=num_classes,
    mesh=mesh,
    goal=goal,
    center_loss=center_loss is not None,
    storage=head.storage,
    optimizer_storage=head.optimizer_storage,
  )
  like = train_state.abstract(init, head_tx=head_tx, mesh=mesh)
  about: Any = {
    "objective": goal.objective,
    "num_classes": num_classes,
    "mesh": mesh,
  }
  step = train_step.make_train_step(
    backbone,
    functools.partial(
      head_api.update,
      tx=head_tx,
      implementation=head.implementation,
      rate=head.rate,
      block_size=head.block_size,
      saved_bytes=head.saved_mib * 2**20,
      precision=head.precision,
      **about,
    ),
    goal=goal,
    target_cosine=functools.partial(sharded.target_cosine, **about),
    center_loss=center_loss,
    head_tx=head_tx,
    trunk_tx=trunk_tx,
    schedule=rate,
    like=like,
    mesh=mesh,
    seed=config.seed,
    report_dropped=head.implementation == "sparse",
  )
  counted = num_classes
  if head.implementation == "partial_fc":
    counted = max(2, round(head.rate * num_classes))
  return Program(
    mesh=mesh,
    backbone=backbone,
    like=like,
    init=init,
    step=step,
    embed=train_step.make_embed(backbone, mesh=mesh),
    chance_loss=goal_lib.chance_loss(goal, num_classes=counted),
  )


def _check_presence(*paths: str) -> None:
  home = presets.data_folder()
  for path in filter(None, paths):
    if path.startswith(home) and not os.path.exists(path):
      raise FileNotFoundError(
        f"{path} does not exist: presets look for data sets in {home!r}; set"
        " FACEJAX_DATA to the folder that holds them, or pass the path itself"
      )


def _check_batch(batch_size: int, devices: int) -> None:
  if batch_size % devices:
    lower = batch_size // devices * devices
    near = [n for n in (lower, lower + devices) if n]
    raise ValueError(
      f"batch_size={batch_size} does not divide by the {devices} devices: use"
      f" {' or '.join(map(str, near))}"
    )
