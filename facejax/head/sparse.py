"""The certified sparse backward: an exact loss, a gradient for few classes.

The loss counts all classes. Its gradient goes to the classes of the batch and
to those that are most probable for some example; how much probability the
others had is returned with the loss. With e the part of the gradient with
respect to the logits that is left out, |e|_1 <= dropped, and the gradient of an
embedding changes by at most s dropped / ||x||.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from facejax.head import (
  blocks,
  chunked,
  collectives,
  logits,
  sampling,
  shard_plan,
)
from facejax.head import objective as objective_lib
from facejax.runtime import typing

# Classes that the normaliser is estimated from, before it is known.
_SAMPLE = 4096
_HALVINGS = 40  # of an interval of log-probabilities
_LEAST = -100.0


def normalizer(
  plan: shard_plan.Plan,
  prototypes: typing.Array,
  batch: logits.ShardBatch,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> typing.Array:
  """A constant [batch] near the log of the sum of all e^z_j.

  From every so many-th class id, whichever device owns it: it only decides
  which classes are worth a gradient.

  Args:
    plan: see there.
    prototypes: [rows, (k,) dim], this shard's, as they are kept.
    batch: as the shard sees it.
    target: s n_y c_y and n_y, over all shards.
    examples: with the queries of all devices along "model".
  """
  rows = prototypes.shape[0]
  step = max(plan.head.num_classes // _SAMPLE, 1)
  first = jax.lax.axis_index("model") * rows
  # Multiples of `step`, not every step-th row of the shard: the same classes on
  # any number of shards.
  ids = first - first % step + jnp.arange(0, rows + step, step)
  own = sampling.own(
    ids, first=first, rows=rows, num_classes=plan.head.num_classes
  )
  walk = blocks.walk_listed(rows, plan.size, own)
  sums, _ = chunked.reduce(plan, walk, prototypes=prototypes, batch=batch)
  # Each of them stands for `step` classes: log(step sum) = log step + log sum.
  sums = sums._replace(others=sums.others + jnp.log(float(step)))
  return _log_total(plan, sums, target, examples)


def _log_total(
  plan: shard_plan.Plan,
  sums: chunked.Sums,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> typing.Array:
  """Log [batch] of the sum of all e^z_j, over all shards; 0 if alone."""
  others = collectives.all_others(plan, sums)
  dot, norm = target
  loss = plan.objective.loss(
    others,
    dot,
    examples.lengths,
    norm,
    examples.parameters.margin,
    objective_lib.has_class(examples.labels, plan.head.num_classes),
  )
  # log(e^a + e^z_y) = a - log(1 - e^-L), where L = log(1 + e^(a - z_y)): from
  # the loss, so that the margin and its per-example parameters are in it.
  total = others - jnp.log(-jnp.expm1(-jnp.maximum(loss, 1e-30)))
  return jnp.where(others > -jnp.inf, total, 0)


def note_scores(
  log_total: typing.Array,
) -> Callable[[blocks.Block, typing.Array, typing.Array], typing.Array]:
  """For `chunked.reduce`: keeps max_i log p_ij for each class j, and the i.

  Which example it was takes the place of the last bits: an argmax would cost
  as much as the matmul, on a CPU.

  Args:
    log_total: [batch], of `normalizer`.
  """
  numbers = jnp.arange(log_total.shape[0], dtype=jnp.uint32)
  mask = _number_mask(log_total.shape[0])

  def observe(
    block: blocks.Block, z: typing.Array, scores: typing.Array
  ) -> typing.Array:
    # log p_ij = z_ji - log sum_k e^z_ki; -inf is brought to a number, or with
    # others of its bits it would be NaN.
    log_p = jnp.maximum(z - log_total[None, :], chunked.LOWEST)
    bits = jax.lax.bitcast_convert_type(log_p, jnp.uint32)
    # The example's number in the lowest bits: with 1024 examples 13 bits of the
    # fraction remain, one part in 8192.
    bits = (bits & ~mask) | numbers[None, :]
    best = jax.lax.bitcast_convert_type(bits, jnp.float32).max(axis=1)
    # Rows that fill the block up keep the score of their own block.
    best = block.keep_stale(best, block.take(scores))
    return blocks.put(scores, best, block.place)

  return observe


def correct(
  plan: shard_plan.Plan,
  scores: typing.Array,
  log_total: typing.Array,
  sums: chunked.Sums,
  target: tuple[typing.Array, typing.Array],
  examples: collectives.Examples,
) -> typing.Array:
  """The scores [rows] noted, now that the normaliser is known.

  Where one class has nearly all the probability, the estimate depends on
  whether that class was in the sample; without this the example would seem to
  have many probable classes.

  Args:
    plan: see there.
    scores: [rows], of `note_scores`.
    log_total: [batch], of `normalizer`, with which they were noted.
    sums: over all classes of this shard.
    target: s n_y c_y and n_y, over all shards.
    examples: with the queries of all devices along "model".
  """
  bits = jax.lax.bitcast_convert_type(scores, jnp.uint32)
  best = (bits & _number_mask(log_total.shape[0])).astype(jnp.int32)
  # z - known = (z - estimate) + (estimate - known), for the example that gave
  # the class its score.
  known = _log_total(plan, sums, target, examples)
  return scores + (log_total - known)[best]


def _number_mask(batch: int) -> typing.Array:
  """The bits that hold the number of an example."""
  return jnp.uint32(2 ** math.ceil(math.log2(batch)) - 1)


def choose(
  plan: shard_plan.Plan,
  scores: typing.Array,
  labels: typing.Array,
) -> typing.Array:
  """The classes of the batch, and a share `rate` with the highest scores.

  By a threshold found by bisection: a top_k over all classes costs more than
  their products.

  The threshold is one for all shards. A shard has room for more than twice its
  even share; what does not fit is left out.

  Args:
    plan: see there.
    scores: [rows], of this shard.
    labels: int [batch], of the whole batch.

  Returns:
    int32 [n], rows of this shard, -1 for none.
  """
  rows, shards = scores.shape[0], plan.head.shards
  if plan.head.mesh.shape["data"] > 1:
    # Copies of the shard saw other examples: max over all of max_i log p_ij.
    scores = jax.lax.pmax(scores, "data")
  positives = sampling.own(
    sampling.distinct(labels.astype(jnp.int32)),
    first=jax.lax.axis_index("model") * rows,
    rows=rows,
    num_classes=plan.head.num_classes,
  )
  # These have a place already, and must not take another one.
  taken = jnp.where(positives >= 0, positives, rows)
  scores = scores.at[taken].set(-jnp.inf, mode="drop")
  wanted = max(1, round(plan.head.rate * plan.head.num_classes))

  def halve(
    _: typing.Array, bounds: tuple[typing.Array, typing.Array]
  ) -> tuple[typing.Array, typing.Array]:
    # Invariant: more than `wanted` classes score above low (or low is where the
    # search began), at most `wanted` above high.
    low, high = bounds
    middle = (low + high) / 2
    count = jax.lax.psum((scores > middle).sum(), "model")
    fits = count <= wanted
    return jnp.where(fits, low, middle), jnp.where(fits, middle, high)

  bounds = jnp.float32(_LEAST), jnp.float32(-_LEAST)
  _, threshold = jax.lax.fori_loop(0, _HALVINGS, halve, bounds)
  # A static shape: twice the even share, and some deviations of a small one.
  share = wanted / shards
  room = wanted if shards == 1 else math.ceil(2 * share + 8 * math.sqrt(share))
  room = min(rows, room)
  (others,) = jnp.nonzero(scores > threshold, size=room, fill_value=-1)
  return jnp.concatenate([positives, others.astype(jnp.int32)])


def dropped(
  plan: shard_plan.Plan,
  sums: chunked.Sums,
  kept: typing.Array,
  loss: typing.Array,
) -> typing.Array:
  """Probability [batch] of the classes that the backward pass left out.

  Args:
    plan: see there.
    sums: of this shard.
    kept: [batch], the part of this shard's e^others that took part.
    loss: [batch].
  """
  # This shard's part of e^others over all shards, times how much of it took
  # part.
  part = jnp.exp(sums.others - collectives.all_others(plan, sums))
  part = jnp.where(sums.others > -jnp.inf, part * kept, 0)
  # dropped_i = (1 - kept_i) (1 - p_y): 1 - p_y = 1 - e^-L is the probability of
  # all other classes together.
  everything = jax.lax.psum(part, "model")
  return jnp.maximum(1 - everything, 0) * -jnp.expm1(-loss)
