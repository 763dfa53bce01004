"""The dense head: the specification that every fast path is tested against."""

import jax
import jax.numpy as jnp

from facejax.head import objective as objective_lib
from facejax.losses import alpha, choices, divergence
from facejax.runtime import typing, unit_vectors

# Cosines decide the loss: a float32 matmul must not fall back to bfloat16 or
# TF32 passes, which accelerators use by default.
PRECISION = jax.lax.Precision.HIGHEST

_NONE = objective_lib.Parameters()


def loss(
  prototypes: typing.Array,
  embeddings: typing.Array,
  labels: typing.Array,
  *,
  objective: objective_lib.Objective,
  parameters: objective_lib.Parameters = _NONE,
) -> objective_lib.HeadOutput:
  """The loss over all classes, with the logits written out.

  Args:
    prototypes: [num_classes, dim], or [num_classes, k, dim] for k sub-centres
      a class, of which the nearest stands for it.
    embeddings: [batch, dim].
    labels: int [batch]; outside [0, num_classes) they name no class, see
      `Objective`.
    objective: see there.
    parameters: see there.
  """
  labels = choices.labels(labels)
  # An example without a class has no target: its row is some other's, and what
  # is read there is struck out.
  known = objective_lib.has_class(labels, prototypes.shape[0])
  labels = jnp.where(known, labels, 0)
  # s_i u_i and s_i; n_j and w_j / ||w_j||, or w_j itself.
  queries, lengths = objective.queries(embeddings)
  norms = jnp.ones(prototypes.shape[:-1], queries.dtype)
  if objective.unit_prototypes:
    prototypes = unit_vectors.l2_normalize(prototypes)
  else:
    # ||w_j|| = w_j . w_j / ||w_j||: a norm whose gradient at 0 is a number.
    norms = (prototypes * unit_vectors.l2_normalize(prototypes)).sum(axis=-1)
  # (s n c)_ij, all of them: [batch, num_classes].
  if prototypes.ndim == 2:
    dots = jnp.matmul(queries, prototypes.T, precision=PRECISION)
    norm = norms[labels]
  else:
    # Of k sub-centres the nearest stands for its class.
    every = jnp.einsum("bd,ckd->bck", queries, prototypes, precision=PRECISION)
    dots, nearest = every.max(axis=2), every.argmax(axis=2)
    which = jnp.take_along_axis(nearest, labels[:, None], axis=1)[:, 0]
    norm = norms[labels, which]
  # s n_y c_y and c_y, without margin.
  target = jnp.take_along_axis(dots, labels[:, None], axis=1)[:, 0]
  target, norm = jnp.where(known, target, 0), jnp.where(known, norm, 0)
  cosine = objective.cosine(target, lengths, norm)
  # z_ij = s n_j t(c_ij, c_y), as if every class were another one ...
  logits = objective.others(
    dots,
    lengths[:, None],
    cosine[:, None],
    {name: value[:, None] for name, value in parameters.negative.items()},
  )
  # ... and without the true class: a sum over j != y.
  is_target = labels[:, None] == jnp.arange(dots.shape[1])[None, :]
  is_target &= known[:, None]
  # Nor any class that is too near to be another person.
  is_other = ~is_target & objective.counts(dots, lengths[:, None])
  solved = None
  if objective.divergence is not None:
    others, solved = _sparse(
      objective,
      jnp.where(is_other, logits, -jnp.inf),
      objective.target(target, lengths, norm, parameters.margin),
      known,
    )
  elif objective.one_vs_all is not None:
    others = jnp.where(is_other, jax.nn.softplus(logits), 0).sum(axis=1)
  else:
    others = jax.nn.logsumexp(jnp.where(is_other, logits, -jnp.inf), axis=1)
  # L_i, from z_y = s n_y phi(c_y) and what all others amount to.
  values = objective.loss(
    others, target, lengths, norm, parameters.margin, known, solved
  )
  return objective_lib.HeadOutput(
    loss=values,
    target_cosine=jax.lax.stop_gradient(cosine),
    correct=known & (target > jnp.where(is_other, dots, -jnp.inf).max(axis=1)),
    dropped=jnp.zeros_like(values),
    support=None if solved is None else solved.support,
  )


def _sparse(
  objective: objective_lib.Objective,
  logits: typing.Array,
  target: typing.Array,
  known: typing.Array,
) -> tuple[typing.Array, alpha.Solved]:
  """A number [batch] whose derivatives are the p_ij, and what is known of them.

  Args:
    objective: with a divergence.
    logits: [batch, num_classes], -inf where they do not count.
    target: [batch], z_y.
    known: bool [batch].
  """
  form = objective.divergence
  assert form is not None
  held = jax.lax.stop_gradient(logits)
  # Who has no class has a target whose logit is 0.
  target = jax.lax.stop_gradient(jnp.where(known, target, 0))
  solved = alpha.solve_all(held, target, form, known)
  p = divergence.probabilities(held - solved.tau[:, None], form)
  # A logit of -inf has no probability, and 0 times it would be NaN.
  return jnp.where(p > 0, p * logits, 0).sum(axis=1), solved
