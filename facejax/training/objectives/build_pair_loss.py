"""From the configuration of a loss within batches to its function."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from facejax.head import triplet
from facejax.losses import anchors, pairwise
from facejax.runtime import typing
from facejax.training.objectives import definition as goal_lib
from facejax.training.objectives import step, within_batch


def build(
  loss: within_batch.WithinBatch, *, mesh: jax.sharding.Mesh
) -> step.PairLoss:
  """The function (embeddings, labels, *, key) -> (loss, scalars)."""
  if isinstance(loss, within_batch.Triplet):
    return functools.partial(_triplet, loss=loss, mesh=mesh)
  values: Callable[..., anchors.AnchorLoss]
  if isinstance(loss, within_batch.Contrastive):
    values = functools.partial(pairwise.contrastive, margin=loss.margin)
  elif isinstance(loss, within_batch.SupCon):
    values = functools.partial(pairwise.supcon, temperature=loss.temperature)
  else:
    values = functools.partial(
      pairwise.circle, scale=loss.scale, margin=loss.margin
    )
  return functools.partial(_pairwise, values=values)


def _triplet(
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  key: typing.PRNGKey,
  loss: within_batch.Triplet,
  mesh: jax.sharding.Mesh,
) -> tuple[typing.Array, goal_lib.Numbers]:
  values, statistics = triplet.triplet(
    embeddings,
    labels,
    mesh=mesh,
    margin=loss.margin,
    mining=loss.mining,
    distance=loss.distance,
    key=key,
  )
  # Of all triplets most are learnt soon: their mean would fade.
  over: Any = "active" if loss.mining == "all" else "all"
  return anchors.mean(values, over=over), statistics._asdict()


def _pairwise(
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  key: typing.PRNGKey,
  values: Callable[..., anchors.AnchorLoss],
) -> tuple[typing.Array, goal_lib.Numbers]:
  del key
  found = values(embeddings, labels)
  share = found.active.sum() / jnp.maximum(found.terms.sum(), 1)
  return anchors.mean(found), {"active_share": share}
