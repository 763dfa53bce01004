"""Heads with sparse softmaxes, and what float64 and bisection say of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax.head import objective
from facejax.losses import divergence, margins
from helpers import heads, platforms

Divergence = divergence.Divergence
ARCFACE = functools.partial(margins.arcface, margin=0.5)
HEADS = {
  "cosface": objective.Objective(
    heads.COSFACE_MARGIN, 64.0, divergence=Divergence(1.5)
  ),
  "arcface": objective.Objective(ARCFACE, 64.0, divergence=Divergence(2.0)),
  "dense support": objective.Objective(
    heads.COSFACE_MARGIN, 30.0, divergence=Divergence(1.25)
  ),
  "reference": objective.Objective(
    margins.nsl, 30.0, divergence=Divergence(1.25, -6.0)
  ),
  "reference 2": objective.Objective(
    margins.nsl, 64.0, divergence=Divergence(2.0, -3.0)
  ),
  "own length": objective.Objective(
    margins.nsl, None, divergence=Divergence(1.1)
  ),
}
SGD = optax.sgd(0.1)


def converged(num_classes=403):
  """Embeddings on their prototypes, some of them not quite."""
  problem = heads.problem(num_classes, dim=24)
  noise = np.random.default_rng(4).normal(size=problem.embeddings.shape)
  share = np.linspace(0.05, 0.6, len(noise))[:, None]
  own = problem.prototypes[problem.labels]
  return problem._replace(embeddings=np.float32(own + share * noise))


PROBLEMS = {"untrained": heads.problem(403), "converged": converged()}


def bisected(theta, q, alpha):
  """p [batch, classes] and tau [batch], in float64."""
  low = theta.max(axis=1) - (q.min() ** (1 - alpha) - 1) / (alpha - 1) - 1
  high = theta.max(axis=1) + 1 / (alpha - 1)

  def probabilities(tau):
    u = np.maximum(1 + (alpha - 1) * (theta - tau[:, None]), 0)
    return q * u ** (1 / (alpha - 1))

  for _ in range(200):
    tau = (low + high) / 2
    below = probabilities(tau).sum(axis=1) > 1
    low, high = np.where(below, tau, low), np.where(below, high, tau)
  return probabilities(low), low


def oracle(problem, head):
  """Loss, probabilities, and gradients of prototypes and embeddings."""
  form, labels = head.divergence, problem.labels
  rows = np.arange(len(labels))

  def logits(w, x):
    queries, lengths = head.queries(x)
    units = w / jnp.linalg.norm(w, axis=1, keepdims=True)
    dots = queries @ units.T
    own = lengths * head.margin(dots[rows, labels] / lengths)
    return dots.at[rows, labels].set(own)

  with jax.enable_x64(True), platforms.on_cpu():
    arrays = (
      jnp.asarray(a, jnp.float64)
      for a in (problem.prototypes, problem.embeddings)
    )
    theta, pull = jax.vjp(logits, *arrays)
    theta, a = np.asarray(theta), form.alpha
    q = np.ones_like(theta)
    q[rows, labels] = np.exp(form.log_reference)
    p, tau = bisected(theta, q, a)
    gap = np.maximum(theta - tau[:, None], -1 / (a - 1))
    conjugate = ((1 + (a - 1) * gap) ** (a / (a - 1)) - 1) / a
    own = q[rows, labels]

    def f(u):
      return (u**a - 1 - a * (u - 1)) / (a * (a - 1))

    loss = tau + (q * conjugate).sum(axis=1) - theta[rows, labels]
    loss += own * f(1 / own) + (q.sum(axis=1) - own) * f(0.0)
    d_theta = p.copy()
    d_theta[rows, labels] -= 1
    gradients = jax.device_get(pull(jnp.asarray(d_theta / len(labels))))
  return loss, p, gradients


def check(out, loss, p):
  np.testing.assert_allclose(out.loss, loss, rtol=1e-5, atol=3e-5)
  # A class on the line itself may be counted or not.
  least, most = (p > 1e-9).sum(axis=1), (p > 0).sum(axis=1) + 1
  assert (least <= out.support).all() and (out.support <= most).all()
  assert not out.dropped.any()
