"""Which classes of a shard take part in a step.

Partial FC: the classes of the batch, and a share of all others. The draw is
made class by class id, so that it does not depend on the number of devices.
"""

import fractions
import math

import jax
import jax.numpy as jnp

from facejax.runtime import typing

# Class ids are int32, and so are sums of two of them.
_MOST_ROWS = 2**30
# A rate is rounded to the nearest fraction with no larger denominator; below
# the smallest of these, to one class out of so many.
_LARGEST_STRATUM = 1000


def stratum(rate: float) -> tuple[int, int]:
  """How many classes are drawn out of how many consecutive ones.

  Raises:
    ValueError: if the rate is outside (0, 1].

  >>> stratum(0.3), stratum(1.0), stratum(1e-5)
  ((3, 10), (1, 1), (1, 100000))
  """
  if not 0 < rate <= 1:
    raise ValueError(f"rate={rate}: the share of classes must be in (0, 1]")
  if rate * _LARGEST_STRATUM < 1:
    return 1, min(round(1 / rate), _MOST_ROWS)
  share = fractions.Fraction(rate).limit_denominator(_LARGEST_STRATUM)
  return share.numerator, share.denominator


def draw(
  key: typing.PRNGKey,
  labels: typing.Array,
  *,
  rate: float,
  first: typing.ArrayLike,
  rows: int,
  num_classes: int,
) -> typing.Array:
  """The rows of a shard that take part: its labels, and a share of the rest.

  Out of every b consecutive class ids a are drawn (a / b = rate), evenly
  spaced from a start that (key, number of the stratum) decides: every class
  with the same probability, none twice, in time and memory proportional to
  what is drawn.

  Args:
    key: of the step.
    labels: int [batch], class ids of the whole batch, over all devices.
    rate: share of the classes, in (0, 1].
    first: class id of the shard's first row.
    rows: rows of the shard.
    num_classes: the true number of classes, over all shards.

  Returns:
    int32 [`capacity`(rows, batch, rate)] distinct row numbers, -1 where a
    place stays empty.

  References:
    An et al., Killing Two Birds with One Stone: Efficient and Robust Training
      of Face Recognition CNNs by Partial FC, 2022.
  """
  labels = labels.astype(jnp.int32)
  taken, width = stratum(rate)
  # Stratum t holds the ids t b .. t b + b - 1. Those that this shard touches:
  # its first and last one may belong to its neighbours in part.
  numbers = first // width + jnp.arange(_strata(rows, width), dtype=jnp.int32)
  # The start within the stratum: of (key, t), so every shard that touches the
  # stratum draws the same.
  start = jax.vmap(
    lambda number: jax.random.randint(
      jax.random.fold_in(key, number), (), 0, width
    )
  )(numbers)
  # a of b, evenly spaced: (start + floor(k b / a)) mod b for k < a. Over all
  # starts each place is taken a times, so each class has probability a / b.
  spacing = jnp.arange(taken, dtype=jnp.int32) * width // taken
  drawn = (start[:, None] + spacing[None, :]) % width
  drawn = (numbers[:, None] * width + drawn).reshape(-1)
  # The classes of the batch take part always: without its own class an example
  # would have no target.
  positives = distinct(labels)
  # Whether a drawn id is among the sorted labels, by bisection: a class of the
  # batch that was drawn too has the place of the positive.
  ordered = jnp.sort(labels)
  place = jnp.searchsorted(ordered, drawn)
  nearest = ordered[jnp.minimum(place, labels.shape[0] - 1)]
  drawn = jnp.where(nearest == drawn, -1, drawn)
  ids = jnp.concatenate([drawn, positives])
  return own(ids, first=first, rows=rows, num_classes=num_classes)


def distinct(labels: typing.Array) -> typing.Array:
  """The labels [batch] in order, with -1 in place of repetitions.

  >>> distinct(jnp.array([5, 2, 5])).tolist()
  [2, 5, -1]
  """
  ordered = jnp.sort(labels)
  # Not by `at[1:].set`: XLA's CPU backend may write in place what it still
  # compares.
  before = jnp.concatenate([ordered[:1] - 1, ordered[:-1]])
  return jnp.where(ordered == before, -1, ordered)


def own(
  ids: typing.Array,
  *,
  first: typing.ArrayLike,
  rows: int,
  num_classes: int,
) -> typing.Array:
  """Class ids as rows of the shard, -1 for those of no or another shard."""
  last = jnp.minimum(first + rows, num_classes)
  return jnp.where((ids >= first) & (ids < last), ids - first, -1)


def capacity(*, rows: int, batch: int, rate: float) -> int:
  """Places for the drawn rows of a shard.

  >>> capacity(rows=1000, batch=64, rate=0.1)
  165
  """
  taken, width = stratum(rate)
  return _strata(rows, width) * taken + batch


def _strata(rows: int, width: int) -> int:
  """Strata that rows from anywhere on may touch."""
  return math.ceil((rows - 1) / width) + 1
