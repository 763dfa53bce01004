"""Learning-rate schedules and the optimizer chains of trunk and head."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import optax

Schedule: TypeAlias = Literal[
  "constant", "linear", "step", "polynomial", "cosine"
]
# From weights to booleans, a tree like theirs.
Decayed: TypeAlias = Callable[[Any], Any] | None


def make_schedule(
  name: Schedule,
  *,
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  milestones: Sequence[int] = (),
  decay_factor: float = 0.1,
  power: float = 2.0,
  end_learning_rate: float = 0.0,
) -> optax.Schedule:
  """Learning rate as a function of the step, counted from 0.

  During warm-up it is lr * step / warmup_steps. After that, with t the share
  of the remaining steps that is done:
    constant: lr.
    linear: straight from lr to the end value.
    step: lr * decay_factor^(number of milestones passed).
    polynomial: end + (lr - end) * (1 - t)^power.
    cosine: end + (lr - end) * (1 + cos(pi t)) / 2.

  Args:
    name: one of the above.
    learning_rate: lr, the value at the end of the warm-up.
    total_steps: length of the run, warm-up included.
    warmup_steps: length of the warm-up.
    milestones: steps, counted from the start of the run ("step" only).
    decay_factor: see "step".
    power: see "polynomial".
    end_learning_rate: value at total_steps.

  Raises:
    ValueError: if the name is unknown, the warm-up fills the run, or
      milestones are not increasing or lie outside the run.

  >>> rate = make_schedule("polynomial", learning_rate=0.1, total_steps=100,
  ...                      warmup_steps=10)
  >>> [round(float(rate(step)), 4) for step in (0, 10, 55, 100)]
  [0.0, 0.1, 0.025, 0.0]
  """
  if not 0 <= warmup_steps < total_steps:
    raise ValueError(
      f"warm-up of {warmup_steps} steps must be shorter than the run of"
      f" {total_steps} steps"
    )
  remaining = total_steps - warmup_steps
  if name == "constant":
    main = optax.constant_schedule(learning_rate)
  elif name == "linear":
    main = optax.linear_schedule(learning_rate, end_learning_rate, remaining)
  elif name == "step":
    main = _step_schedule(
      learning_rate, milestones, decay_factor, warmup_steps, total_steps
    )
  elif name == "polynomial":
    main = optax.polynomial_schedule(
      learning_rate, end_learning_rate, power, remaining
    )
  elif name == "cosine":
    main = optax.cosine_decay_schedule(
      learning_rate, remaining, end_learning_rate / learning_rate
    )
  else:
    raise ValueError(f"schedule {name!r}: choose one of {get_args(Schedule)}")
  if not warmup_steps:
    return main
  warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([warmup, main], [warmup_steps])


def sgd(
  schedule: optax.Schedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  decayed: Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """SGD with momentum and coupled weight decay, as the field trains.

  g <- clip(g); g <- g + wd w; v <- momentum v + g; w <- w - lr v. The decay
  acts on everything, BatchNorm and PReLU included, unless `decayed` says
  otherwise, and passes through the momentum (L2 regularisation), unlike AdamW's.

  Args:
    schedule: learning rate by step.
    momentum: in [0, 1); 0 holds nothing beside the weights.
    nesterov: Nesterov's form of the momentum.
    weight_decay: wd >= 0.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.
  """
  return optax.chain(
    *before(weight_decay, clip_norm, decayed),
    # With 0, not None, optax would keep the last gradient.
    optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
  )


def adagrad(
  schedule: optax.Schedule,
  *,
  accumulator: float = 0.1,
  epsilon: float = 1e-7,
  weight_decay: float = 0.0,
  decayed: Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """SGD with AdaGrad's step sizes, as FaceNet was trained.

  g <- clip(g); g <- g + wd w; a <- a + g^2; w <- w - lr g / sqrt(a + eps). The
  current gradient is in the sum already, so the first step is at most lr. An
  entry that never had a gradient keeps its weight.

  Args:
    schedule: learning rate by step.
    accumulator: a at the start, 0 or more. At 0 all first steps have length lr.
    epsilon: eps > 0.
    weight_decay: wd >= 0.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    Duchi et al., Adaptive Subgradient Methods for Online Learning and
      Stochastic Optimization, 2011.
    Schroff et al., FaceNet: A Unified Embedding for Face Recognition and
      Clustering, 2015, Sec. 3.3.
  """
  return optax.chain(
    *before(weight_decay, clip_norm, decayed),
    optax.adagrad(schedule, accumulator, epsilon),
  )


def adamw(
  schedule: optax.Schedule,
  *,
  beta1: float = 0.9,
  beta2: float = 0.999,
  epsilon: float = 1e-8,
  weight_decay: float = 0.0,
  decayed: Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay, as ViTs are trained.

  g <- clip(g); m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; both divided by
  1 - b^t at step t; w <- w - lr (m / (sqrt(v) + eps) + wd w).

  Args:
    schedule: learning rate by step.
    beta1: b1, in [0, 1).
    beta2: b2, in [0, 1).
    epsilon: eps > 0.
    weight_decay: wd >= 0, times the learning rate.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    Loshchilov, Hutter, Decoupled Weight Decay Regularization, 2019.
  """
  return optax.chain(
    *before(0.0, clip_norm),
    optax.adamw(
      *(schedule, beta1, beta2, epsilon),
      weight_decay=weight_decay,
      mask=decayed,
    ),
  )


def lion(
  schedule: optax.Schedule,
  *,
  beta1: float = 0.9,
  beta2: float = 0.99,
  weight_decay: float = 0.0,
  decayed: Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """The sign of a momentum, with decoupled weight decay.

  g <- clip(g); w <- w - lr (sign(b1 m + (1 - b1) g) + wd w);
  m <- b2 m + (1 - b2) g. Each number moves by lr, so lr is a tenth of AdamW's.

  Args:
    schedule: learning rate by step.
    beta1: b1, in [0, 1).
    beta2: b2, in [0, 1).
    weight_decay: wd >= 0, times the learning rate.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    Chen et al., Symbolic Discovery of Optimization Algorithms, 2023.
  """
  return optax.chain(
    *before(0.0, clip_norm),
    optax.lion(
      *(schedule, beta1, beta2), weight_decay=weight_decay, mask=decayed
    ),
  )


def before(
  weight_decay: float, clip_norm: float | None, decayed: Decayed = None
) -> list[optax.GradientTransformation]:
  """What most chains begin with: clipping, and decay that is coupled."""
  chain = []
  if clip_norm is not None:
    chain.append(optax.clip_by_global_norm(clip_norm))
  if weight_decay:
    chain.append(optax.add_decayed_weights(weight_decay, decayed))
  return chain


def _step_schedule(
  learning_rate, milestones, decay_factor, warmup_steps, total_steps
) -> optax.Schedule:
  ordered = sorted(set(milestones)) == list(milestones)
  inside = all(warmup_steps < m < total_steps for m in milestones)
  if not (milestones and ordered and inside):
    raise ValueError(
      f"milestones {tuple(milestones)}: the step schedule wants increasing"
      f" steps after the warm-up ({warmup_steps}) and before the end"
      f" ({total_steps})"
    )
  scales = {m - warmup_steps: decay_factor for m in milestones}
  return optax.piecewise_constant_schedule(learning_rate, scales)
