"""Embeddings that stay comparable with those of an older run.

A gallery that the old net embedded can then be searched with the new one, and
need not be embedded again.

References:
  Shen et al., Towards Backward-Compatible Representation Learning, 2020.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from facejax.head import api as head_api
from facejax.head import objective as objective_lib
from facejax.head import storage
from facejax.runs import classes
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing
from facejax.training import class_places, extra_terms
from facejax.training import config as config_lib
from facejax.training.objectives import definition

logger = logging.getLogger(__name__)


class Kept(NamedTuple):
  """What is frozen of the old run.

  Attributes:
    prototypes: [rows, dim], split by class.
    places: int32 [num_classes], of each class here its number there, or -1.
  """

  prototypes: Any
  places: Any


def check(config: config_lib.Config) -> None:
  """Refuses an old run whose prototypes this one cannot keep to.

  Raises:
    FileNotFoundError: if the folder is none of a trained net.
    ValueError: naming the field and what is allowed.
  """
  run = config.compatible_with
  if not run:
    return
  _objective(config, num_classes=2)
  try:
    card = net_lib.read_card(run)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"compatible_with: {error}. Name a run with --compatible-with"
    ) from None
  if card.embedding_dim != config.model.embedding_dim:
    raise ValueError(
      f"compatible_with={run!r} makes embeddings of {card.embedding_dim}, and"
      f" this run has model.embedding_dim={config.model.embedding_dim}: what is to"
      " be compared must be of one size"
    )


def _objective(
  config: config_lib.Config, *, num_classes: int
) -> objective_lib.Objective:
  """The run's own, over the old classes.

  Raises:
    ValueError: for a loss that carries more of its classes than prototypes.
  """
  loss = config.loss
  why = "has no prototypes of its own"
  if isinstance(loss, definition.OverClasses):
    found = loss.definition(num_classes)
    plain = not (found.prepare or found.weights or found.centers > 1)
    objective = found.objective
    if plain and objective.unit_prototypes and objective.table is None:
      return objective
    why = "asks for more than the cosines between embeddings and prototypes"
  raise ValueError(
    f"compatible_with: loss {loss.name} {why}; take one that is a function of"
    " those, such as cosface or arcface"
  )


def build(
  config: config_lib.Config, mesh: jax.sharding.Mesh, *, num_classes: int
) -> extra_terms.Term:
  r"""The loss of the new embeddings with the old prototypes, frozen.

  .. math::
    \frac{\lambda}{n} \sum_{i: y_i \in \text{old}} L(x_i, W_{\text{old}}, y_i)

  with the run's own L and margin. Images of people whom the old run did not
  have count as 0.

  Args:
    config: of the run; `check` has passed.
    mesh: its devices.
    num_classes: of the run, distractors among them.

  Raises:
    ValueError: if the old run has no prototypes, or has sub-centres.
    OSError: if its checkpoint is damaged.
  """
  run = config.compatible_with
  form = classes.prototypes_of(run, mesh=mesh)
  if form is None or len(form[1].shape) != 2:
    raise ValueError(
      f"compatible_with={run!r} has no prototypes, one a class: its loss must be"
      " one over classes, without sub-centres, or they were not imported"
    )
  step, prototypes = form
  card = net_lib.read_card(run)
  names = classes.read(run)
  old = card.identities if names is None else len(names)
  old = old or prototypes.shape[0]
  head = head_api.Head(
    _objective(config, num_classes=old),
    old,
    mesh,
    implementation="chunked",
    block_size=config.head.block_size,
    precision=config.head.precision,
  )
  where = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  places = jax.ShapeDtypeStruct((num_classes,), jnp.int32, sharding=where)

  def read(here: Sequence[str]) -> Kept:
    kept = classes.read_prototypes(run, step=step, mesh=mesh)
    assert kept is not None  # or it would have no form
    found = np.full(num_classes, -1, np.int32)
    shared, _ = class_places.find(
      "compatible_with", run, card, here, rows=prototypes.shape[0]
    )
    found[: len(here)] = shared
    logger.info(
      "keeps to the prototypes of %s: %s of %s classes are there",
      *(run, f"{(shared >= 0).sum():,}", f"{len(here):,}"),
    )
    return Kept(kept, jax.device_put(found, where))

  gradient = functools.partial(
    _gradient, head=head, weight=config.compatible_weight
  )
  return extra_terms.Term(Kept(prototypes, places), gradient, read)


def _gradient(
  images: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  kept: Kept,
  *,
  head: head_api.Head,
  weight: float,
) -> tuple[typing.Array, definition.Numbers]:
  """The gradient of `build`'s sum for the embeddings, and its mean."""
  del images
  known = objective_lib.has_class(labels, kept.places.shape[0])
  places = jnp.where(known, kept.places[jnp.where(known, labels, 0)], -1)
  known = places >= 0
  # In double precision where the trunk is.
  dtype = jnp.promote_types(jnp.float32, embeddings.dtype)
  prototypes = storage.load(kept.prototypes).astype(dtype)

  def value(embeddings: typing.Array) -> tuple[typing.Array, Any]:
    found = head.loss(prototypes, embeddings, places)
    loss = jnp.where(known, found.loss, 0)
    share = jnp.maximum(known.sum(), 1)
    told = {
      "compatible_loss": loss.sum() / share,
      "compatible_cosine": jnp.where(known, found.target_cosine, 0).sum()
      / share,
    }
    return weight * loss.mean(), told

  return jax.grad(value, has_aux=True)(embeddings)
