"""Optimizers that look at a whole weight matrix at once: for the trunk alone.

The prototypes are updated block by block, and lie on several devices: there such
an optimizer would see parts of a matrix for the whole. `optim` has what can
train them.
"""

import jax
import optax
import optax.contrib

from facejax.training import groups, optim

# Scales an orthogonal update to the size of AdamW's (Liu et al., 2025).
_RMS = 0.2


def lars(
  schedule: optax.Schedule,
  *,
  momentum: float = 0.9,
  nesterov: bool = False,
  trust: float = 1e-3,
  weight_decay: float = 0.0,
  decayed: optim.Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """SGD whose step is measured by the weights it moves, for large batches.

  g <- clip(g); g <- g + wd w; g <- g trust |w| / |g| for each kernel, and as it
  is for norms, biases and slopes; v <- momentum v + lr g; w <- w - v.

  Args:
    schedule: learning rate by step; some ten times that of SGD.
    momentum: in [0, 1).
    nesterov: Nesterov's form of the momentum.
    trust: the trust coefficient, above 0.
    weight_decay: wd >= 0.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    You, Gitman, Ginsburg, Large Batch Training of Convolutional Networks, 2017.
  """
  return optax.chain(
    *optim.before(0.0, clip_norm),
    optax.lars(
      schedule,
      weight_decay=weight_decay,
      weight_decay_mask=True if decayed is None else decayed,
      trust_coefficient=trust,
      trust_ratio_mask=groups.kernels,
      momentum=momentum,
      nesterov=nesterov,
    ),
  )


def lamb(
  schedule: optax.Schedule,
  *,
  beta1: float = 0.9,
  beta2: float = 0.999,
  epsilon: float = 1e-6,
  weight_decay: float = 0.0,
  decayed: optim.Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """AdamW whose step is measured by the weights it moves, for large batches.

  With u AdamW's step over lr, weight decay included: w <- w - lr u |w| / |u|, for
  each weight array; where one of the norms is 0, w <- w - lr u.

  Args:
    schedule: learning rate by step.
    beta1: see `optim.adamw`.
    beta2: see `optim.adamw`.
    epsilon: see `optim.adamw`.
    weight_decay: wd >= 0.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    You et al., Large Batch Optimization for Deep Learning: Training BERT in 76
      Minutes, 2020.
  """
  return optax.chain(
    *optim.before(0.0, clip_norm),
    optax.lamb(
      *(schedule, beta1, beta2, epsilon),
      weight_decay=weight_decay,
      mask=decayed,
    ),
  )


def muon(
  schedule: optax.Schedule,
  *,
  momentum: float = 0.95,
  beta1: float = 0.9,
  beta2: float = 0.999,
  weight_decay: float = 0.0,
  decayed: optim.Decayed = None,
  clip_norm: float | None = None,
) -> optax.GradientTransformation:
  """Kernels move by an orthogonal matrix near their momentum; the rest by AdamW.

  g <- clip(g); for a kernel, as a matrix of inputs (of a convolution the window
  times the channels) by outputs: m <- momentum m + (1 - momentum) g, corrected
  for its start, in Nesterov's form; w <- w - lr (0.2 sqrt(max(inputs, outputs))
  O + wd w), where O is made of m by five steps of Newton and Schulz, which bring
  its singular values near 1. So its step is as large as AdamW's, and takes its
  learning rate and decay. Norms, biases and slopes: AdamW in Nesterov's form.

  Args:
    schedule: learning rate by step.
    momentum: of kernels, in [0, 1).
    beta1: of AdamW.
    beta2: of AdamW.
    weight_decay: wd >= 0, times the learning rate.
    decayed: which weights the decay acts on, see `groups`; None for all.
    clip_norm: bound of the global norm of the gradient; None for no clipping.

  References:
    Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    Liu et al., Muon is Scalable for LLM Training, 2025.
  """
  return optax.chain(
    *optim.before(0.0, clip_norm),
    optax.contrib.muon(
      schedule,
      beta=momentum,
      adam_b1=beta1,
      adam_b2=beta2,
      weight_decay=weight_decay,
      weight_decay_mask=decayed,
      adam_weight_decay=weight_decay if decayed is None else 0.0,
      muon_weight_dimension_numbers=_as_matrices,
      consistent_rms=_RMS,
    ),
  )


def _as_matrices(params):
  """How to see each kernel as a matrix; None for what is none."""

  def numbers(kernel, leaf):
    if not kernel:
      return None
    return optax.contrib.MuonDimensionNumbers(
      reduction_axis=tuple(range(leaf.ndim - 1)), output_axis=leaf.ndim - 1
    )

  return jax.tree.map(numbers, groups.kernels(params), params)
