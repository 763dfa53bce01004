"""A training step put together from its parts, without the configuration.

For machines that have jax, flax, optax and numpy alone: generated faces, a net,
the CosFace head and the trainer's own step. The smallest is the embedded default
of `python -m facejax.train --config cosface.py`; a test compares the two.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from facejax.data.synthetic import faces
from facejax.head import api, objective
from facejax.losses import margins
from facejax.models import functional
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim, state
from facejax.training import step as train_step
from facejax.training.objectives import definition as definition_lib
from facejax.training.objectives import step as loss_step


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is trained; the defaults are those of the embedded recipe."""

  net: str = "iresnet10_slim"
  image_size: tuple[int, int] = (48, 48)
  embedding_dim: int = 128
  dtype: str = "float32"
  precision: api.Precision = "float32"
  classes: int = 500
  images_per_class: int = 25
  batch: int = 128
  scale: float = 32.0
  margin: float = 0.2
  learning_rate: float = 0.1
  warmup: float = 0.1
  epochs: int = 3
  momentum: float = 0.9
  weight_decay: float = 5e-4
  clip_norm: float = 5.0
  seed: int = 0

  @property
  def total_steps(self) -> int:
    """Of the whole run, of which only the first are taken."""
    images = self.classes * self.images_per_class
    return max(1, round(self.epochs * (images // self.batch)))


TINY = Setting(batch=16, classes=20, image_size=(32, 32), embedding_dim=32)


@dataclasses.dataclass(frozen=True)
class Program:
  """The jitted step, and the state that it starts from."""

  mesh: jax.sharding.Mesh
  step: Any
  start: state.TrainState


def build(setting: Setting, device: Any) -> Program:
  """Net, head, optimizers and step on one device; the state is made there."""
  mesh = mesh_lib.lay_out([device], model=1)
  net = functional.build(
    setting.net,
    embedding_dim=setting.embedding_dim,
    image_size=setting.image_size,
    dtype=jnp.dtype(setting.dtype),
  )
  rate = optim.make_schedule(
    "cosine",
    learning_rate=setting.learning_rate,
    total_steps=setting.total_steps,
    warmup_steps=round(setting.warmup * setting.total_steps),
  )
  common: Any = {
    "momentum": setting.momentum,
    "weight_decay": setting.weight_decay,
  }
  trunk_tx = optim.sgd(rate, clip_norm=setting.clip_norm, **common)
  head_tx = optim.sgd(rate, **common)
  loss = objective.Objective(
    functools.partial(margins.cosface, margin=setting.margin), setting.scale
  )
  head = api.Head(
    loss, setting.classes, mesh, tx=head_tx, precision=setting.precision
  )
  definition = definition_lib.Definition(loss)
  init = state.make_init(
    net,
    trunk_tx=trunk_tx,
    head_tx=head_tx,
    head=head,
    definition=definition,
  )
  like = state.abstract(init, head_tx=head_tx, mesh=mesh)
  step = train_step.make_train_step(
    net,
    loss_step.over_classes(head, definition=definition, seed=setting.seed),
    trunk_tx=trunk_tx,
    schedules={"learning_rate": rate},
    like=like,
    mesh=mesh,
    seed=setting.seed,
  )
  return Program(mesh, step, state.create(init, like, seed=setting.seed))


def batches(setting: Setting, count: int) -> list[dict[str, np.ndarray]]:
  """Generated faces: the images [batch, height, width, 3] and labels [batch]."""
  source = faces.SyntheticFaces(
    num_identities=setting.classes,
    images_per_identity=setting.images_per_class,
    seed=setting.seed,
    image_size=setting.image_size,
  )
  order = np.random.default_rng(setting.seed).permutation(len(source))
  chosen = order[: count * setting.batch].reshape(count, setting.batch)
  return [
    {
      "images": np.stack([np.asarray(source[int(i)]) for i in rows]),
      "labels": np.asarray(source.labels)[rows].astype(np.int32),
    }
    for rows in chosen
  ]
