"""A teacher's embeddings, beside the loss of a run.

The teacher is another run's net, frozen. What it asks for is added to the
gradient of the embeddings, between the trunk's forward and backward pass; the
prototypes see nothing of it.
"""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from facejax.losses import distillation
from facejax.runs import card as card_lib
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing
from facejax.training import config as config_lib
from facejax.training import extra_terms, passes
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


def build(
  config: config_lib.Config, mesh: jax.sharding.Mesh
) -> extra_terms.Term:
  """What the teacher of a run adds to its loss; the net lies on each device.

  Args:
    config: of the run; `check` has passed.
    mesh: its devices.
  """
  card = net_lib.read_card(config.distill)
  where = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  stored = net_lib.build(card, card.dtype)
  like = Frozen(*net_lib.shapes_of(stored, where))
  backbone = net_lib.build(card, config.model.dtype)
  gradient = functools.partial(
    _gradient,
    net=net_lib.TrainedNet(card, 0, backbone, None, None),
    weights=config.distillation,
    parts=config.accumulate,
    mesh=mesh,
  )

  def read(names: Sequence[str]) -> Frozen:
    del names
    step, *found = net_lib.read_weights(config.distill, card, like)
    logger.info("learns from %s, step %d", config.distill, step)
    return Frozen(*found)

  return extra_terms.Term(like, gradient, read)


def _gradient(
  images: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  frozen: Frozen,
  *,
  net: net_lib.TrainedNet,
  weights: config_lib.DistillationConfig,
  parts: int,
  mesh: jax.sharding.Mesh,
) -> tuple[typing.Array, definition.Numbers]:
  """The gradient of what the teacher asks for, and how far it is reached."""
  del labels
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
