"""Schedule-free training: a running mean of the weights in place of a schedule.

Three sequences: z takes AdamW's steps without momentum, x is a mean of all z so
far, and gradients are taken at y, which lies between. At the end of a run of any
length x is what a schedule that decays to 0 would have come to; it is what is
verified and exported.

References:
  Defazio et al., The Road Less Scheduled, 2024.
"""

from typing import Any

import jax
import optax
import optax.contrib

from facejax.runtime import typing
from facejax.training import optim


def steps(
  schedule: optax.Schedule,
  *,
  beta2: float = 0.999,
  epsilon: float = 1e-8,
  weight_decay: float = 0.0,
  decayed: optim.Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """The steps of z: AdamW's without a momentum, which `interpolated` stands for.

  g <- clip(g); v <- b2 v + (1 - b2) g^2, divided by 1 - b2^t at step t;
  z <- z - lr (g / (sqrt(v) + eps) + wd y).

  Args:
    schedule: learning rate by step; it need not fall.
    beta2: b2, in [0, 1).
    epsilon: eps > 0.
    weight_decay: wd >= 0, times the learning rate.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.
  """
  return optax.chain(
    *optim.before(0.0, clip_norm),
    # AdamW's own with b1 = 0 would keep a first moment that is never used.
    optax.scale_by_rms(beta2, epsilon, eps_in_sqrt=False, bias_correction=True),
    optax.add_decayed_weights(weight_decay, decayed),
    optax.scale_by_learning_rate(schedule),
  )


def interpolated(
  tx: optax.GradientTransformation, schedule: optax.Schedule, *, beta1: float
) -> optax.GradientTransformation:
  """Moves y = (1 - b1) z + b1 x by the steps that `tx` takes with z.

  x <- (1 - c) x + c z, where c is the square of the largest learning rate so far
  over the sum of those squares: a plain mean, in which a warm-up counts little.

  Args:
    tx: of the steps; it sees y as the weights. What scales steps
      (`groups.by_depth`) stands within it, what freezes weights around it.
    schedule: its learning rate by step.
    beta1: b1, in (0, 1), as large as the momentum that it replaces.
  """
  return optax.contrib.schedule_free(tx, schedule, b1=beta1)


def mean(state: optax.OptState, params: typing.Params) -> typing.Params:
  """x = (y - (1 - b1) z) / b1; frozen weights as they are.

  Args:
    state: of `interpolated`, also within `groups.freeze`.
    params: y.
  """

  def is_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)

  [free] = filter(is_free, jax.tree.leaves(state, is_leaf=is_free))

  def of_leaf(y: typing.Array, z: Any) -> typing.Array:
    frozen = isinstance(z, optax.MaskedNode)
    return y if frozen else (y - (1 - free.b1) * z) / free.b1

  return jax.tree.map(of_leaf, params, free.z)
