"""A teacher's embeddings, beside the loss of a run.

The teacher is another run's net, frozen. What it asks for is added to the
gradient of the embeddings, between the trunk's forward and backward pass; the
prototypes see nothing of it.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import distillation
from facejax.runs import card as card_lib
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing
from facejax.training import config as config_lib
from facejax.training import passes
from facejax.training.objectives import definition

logger = logging.getLogger(__name__)


class Frozen(NamedTuple):
  """The teacher's arrays, which a step is given and leaves as they are.

  Attributes:
    params: weights of its net.
    stats: running statistics.
  """

  params: typing.Params
  stats: typing.Params


# (images, embeddings, what is frozen) -> gradient of the embeddings, metrics.
Terms: TypeAlias = Callable[
  [typing.Array, typing.Array, Frozen], tuple[typing.Array, definition.Numbers]
]


class Teacher(NamedTuple):
  """Another run's net, as a step uses it.

  Attributes:
    like: shapes and places of what is frozen; `read` gives the arrays.
    terms: what the step adds to the gradient of the embeddings.
  """

  like: Frozen
  terms: Terms


def check(config: config_lib.Config) -> None:
  """Refuses a teacher that this run cannot learn from; reads its card alone.

  Raises:
    FileNotFoundError: if the folder is none of a trained net.
    ValueError: naming the field and what is allowed.
  """
  own = config.distillation
  if not config.distill:
    return
  if not (own.cosine or own.relations):
    raise ValueError(
      f"distill={config.distill!r} with distillation.cosine=0 and"
      " distillation.relations=0: nothing would be learnt from it; give one of"
      " them a weight"
    )
  try:
    card = net_lib.read_card(config.distill)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"distill: {error}. Train it first, or name another with --distill"
    ) from None
  _check_sizes(config, card)


def _check_sizes(config: config_lib.Config, card: card_lib.Card) -> None:
  run, here = config.distill, config.data
  if (card.image_size, card.crop) != (tuple(here.image_size), here.crop):
    raise ValueError(
      f"distill={run!r} sees images of {card.image_size}, crop {card.crop:g}, and"
      f" this run {tuple(here.image_size)}, crop {here.crop:g}: both see the"
      " same; take its data.image_size and data.crop"
    )
  dim = config.model.embedding_dim
  if config.distillation.cosine and card.embedding_dim != dim:
    raise ValueError(
      f"distill={run!r} makes embeddings of {card.embedding_dim}, and this run"
      f" has model.embedding_dim={dim}: for distillation.cosine they must be the"
      " same; or take distillation.relations with distillation.cosine=0"
    )


def build(config: config_lib.Config, mesh: jax.sharding.Mesh) -> Teacher | None:
  """The teacher of a run, a copy on each device; None for none.

  Args:
    config: of the run; `check` has passed.
    mesh: its devices.
  """
  if not config.distill:
    return None
  card = net_lib.read_card(config.distill)
  backbone = net_lib.build(card, config.model.dtype)
  where = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  like = net_lib.shapes_of(net_lib.build(card, card.dtype), where)
  net = net_lib.TrainedNet(card, 0, backbone, None, None)
  return Teacher(
    Frozen(*like),
    functools.partial(
      _terms,
      net=net,
      weights=config.distillation,
      parts=config.accumulate,
      mesh=mesh,
    ),
  )


def read(run: str, teacher: Teacher) -> Frozen:
  """The arrays of a teacher, on the devices.

  Args:
    run: its folder.
    teacher: of `build`.

  Raises:
    OSError: if its checkpoints are damaged.
  """
  card = net_lib.read_card(run)
  step, *found = net_lib.read_weights(run, card, teacher.like)
  logger.info("learns from %s, step %d", run, step)
  return Frozen(*found)


def _terms(
  images: typing.Array,
  embeddings: typing.Array,
  frozen: Frozen,
  *,
  net: net_lib.TrainedNet,
  weights: config_lib.DistillationConfig,
  parts: int,
  mesh: jax.sharding.Mesh,
) -> tuple[typing.Array, definition.Numbers]:
  """The gradient of what the teacher asks for, and how far it is reached."""
  teacher = passes.in_parts(
    dataclasses.replace(net, params=frozen.params, stats=frozen.stats).embed,
    images,
    parts=parts,
    mesh=mesh,
  )

  def value(embeddings: typing.Array) -> tuple[typing.Array, Any]:
    found, total = {}, jnp.zeros((), embeddings.dtype)
    if weights.cosine:
      far = distillation.cosine(embeddings, teacher).mean()
      total += weights.cosine * far
      found["teacher_cosine"] = 1 - far
    if weights.relations:
      apart = distillation.relations(embeddings, teacher).mean()
      total += weights.relations * apart
      found["teacher_relations"] = apart
    return total, found

  return jax.grad(value, has_aux=True)(embeddings)
