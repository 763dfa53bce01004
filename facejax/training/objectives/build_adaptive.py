"""Goals of the losses that look at a batch or carry numbers between steps."""

import functools

import jax
import jax.numpy as jnp

from facejax.head import objective as objective_lib
from facejax.losses import adaptive, elastic, margins, multiplicative
from facejax.training.objectives import definition as goal_lib
from facejax.training.objectives import registry

Objective = objective_lib.Objective
Parameters = objective_lib.Parameters


def annealed(
  loss: registry.LSoftmax | registry.ASoftmax,
) -> goal_lib.Goal:
  """L-Softmax and A-Softmax: the plain cosine counts ever less."""

  def prepare(weights, stats, batch):
    del weights
    # Published counts start at 1.
    step = stats["step"] + 1
    strength = multiplicative.annealed_strength(
      step,
      base=loss.base,
      gamma=loss.gamma,
      power=loss.power,
      minimum=loss.minimum,
    )
    each = jnp.broadcast_to(strength, batch.embeddings.shape[:1])
    return goal_lib.Prepared(
      Parameters(margin={"strength": each}),
      stats={"step": step},
      metrics={"lambda": strength},
    )

  return goal_lib.Goal(
    Objective(
      functools.partial(multiplicative.a_softmax, margin=loss.margin),
      None,
      unit_prototypes=isinstance(loss, registry.ASoftmax),
    ),
    # A counter of its own: it starts anew where only the trunk is taken over.
    stats={"step": 0.0},
    prepare=prepare,
  )


def with_bias(weights, stats, batch) -> goal_lib.Prepared:
  """One learnt threshold, for every example."""
  bias = weights["bias"]
  each = {"bias": jnp.broadcast_to(bias, batch.embeddings.shape[:1])}
  return goal_lib.Prepared(
    Parameters(margin=each, negative=each),
    stats=stats,
    metrics={"bias": bias},
  )


def adaface(loss: registry.AdaFace) -> goal_lib.Goal:
  """AdaFace: running statistics of the norms."""

  def prepare(weights, stats, batch):
    del weights
    norms = jnp.linalg.norm(jax.lax.stop_gradient(batch.embeddings), axis=1)
    mean, std = adaptive.adaface_statistics(
      norms, stats["mean"], stats["std"], rate=loss.rate
    )
    quality = adaptive.adaface_quality(
      norms, mean, std, concentration=loss.concentration
    )
    return goal_lib.Prepared(
      Parameters(margin={"quality": quality}),
      stats={"mean": mean, "std": std},
      metrics={"norm_mean": mean, "norm_std": std},
    )

  return goal_lib.Goal(
    Objective(
      functools.partial(adaptive.adaface, margin=loss.margin), loss.scale
    ),
    stats={"mean": 20.0, "std": 100.0},
    prepare=prepare,
  )


def magface(loss: registry.MagFace) -> goal_lib.Goal:
  """MagFace: margins and a penalty from the norms, with their gradient."""
  norms_range = {"l_a": loss.lower_norm, "u_a": loss.upper_norm}

  def prepare(weights, stats, batch):
    del weights
    # Its gradient at a zero vector is 0, not 0 / 0.
    square = (batch.embeddings**2).sum(axis=1)
    norms = jnp.sqrt(jnp.maximum(square, 1e-24))
    margin = adaptive.magface_margin(
      norms, l_m=loss.lower_margin, u_m=loss.upper_margin, **norms_range
    )
    return goal_lib.Prepared(
      Parameters(margin={"margin": margin}),
      stats=stats,
      penalty=loss.weight * adaptive.magface_regularizer(norms, **norms_range),
      metrics={"margin": jax.lax.stop_gradient(margin.mean())},
    )

  return goal_lib.Goal(
    Objective(
      functools.partial(adaptive.magface, guard=loss.guard), loss.scale
    ),
    prepare=prepare,
  )


def curricularface(loss: registry.CurricularFace) -> goal_lib.Goal:
  """CurricularFace: a running mean of the target cosine."""

  def prepare(weights, stats, batch):
    del weights
    average = adaptive.curricularface_average(
      stats["average"], batch.target_cosine, decay=loss.decay
    )
    each = jnp.broadcast_to(average, batch.embeddings.shape[:1])
    return goal_lib.Prepared(
      Parameters(negative={"average": each}),
      stats={"average": average},
      metrics={"t": average},
    )

  return goal_lib.Goal(
    Objective(
      functools.partial(margins.arcface, margin=loss.margin),
      loss.scale,
      negative=functools.partial(
        adaptive.curricularface_negative, margin=loss.margin
      ),
    ),
    stats={"average": 0.0},
    prepare=prepare,
    needs_target=True,
  )


def elasticface(loss: registry.ElasticFace) -> goal_lib.Goal:
  """ElasticFace: margins drawn anew every step."""

  def prepare(weights, stats, batch):
    del weights
    drawn = elastic.elastic_margins(
      batch.key, batch.embeddings.shape[:1], margin=loss.margin, std=loss.std
    )
    if loss.order != "none":
      drawn = elastic.elastic_order(drawn, batch.target_cosine, mode=loss.order)
    return goal_lib.Prepared(Parameters(margin={"margin": drawn}), stats=stats)

  plain = margins.cosface
  if loss.kind == "arc":
    plain = functools.partial(margins.arcface, guard="none")
  return goal_lib.Goal(
    Objective(plain, loss.scale),
    prepare=prepare,
    needs_target=loss.order != "none",
  )
