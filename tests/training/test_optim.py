"""Schedules and the SGD chain against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from facejax.training import optim

NAMES = ["constant", "linear", "step", "polynomial", "cosine"]


def rates(name, **options):
  options = {"milestones": (60,), **options} if name == "step" else options
  schedule = optim.make_schedule(
    name, learning_rate=0.1, total_steps=110, **options
  )
  return np.array([float(schedule(step)) for step in range(111)])


@pytest.mark.parametrize("name", NAMES)
def test_schedules_follow_their_formulas(name):
  step = np.arange(111)
  share = np.clip((step - 10) / 100, 0, 1)
  expected = {
    "constant": np.full(111, 0.1),
    "linear": 0.1 * (1 - share),
    "step": np.where(step < 60, 0.1, 0.01),
    "polynomial": 0.1 * (1 - share) ** 2,
    "cosine": 0.1 * (1 + np.cos(np.pi * share)) / 2,
  }[name]
  warm = np.where(step < 10, 0.1 * step / 10, expected)
  np.testing.assert_allclose(rates(name, warmup_steps=10), warm, atol=1e-6)
  assert rates(name)[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("linear", {"warmup_steps": 110}, "must be shorter than the run"),
    ("step", {"milestones": ()}, "increasing"),
    ("step", {"milestones": (50, 40)}, "increasing"),
    ("step", {"milestones": (200,)}, "before the end"),
    ("triangle", {}, "choose one of"),
  ],
)
def test_bad_schedules_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    optim.make_schedule(name, learning_rate=0.1, total_steps=110, **options)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_coupled_decay_through_momentum(nesterov):
  rng = np.random.default_rng(0)
  tx = optim.sgd(
    optax.constant_schedule(0.1),
    momentum=0.9,
    nesterov=nesterov,
    weight_decay=0.01,
    clip_norm=1.0,
  )
  w = v = rng.normal(size=5).astype(np.float32)
  v = np.zeros(5)
  params, state = jnp.asarray(w), tx.init(jnp.asarray(w))
  for _ in range(4):
    gradient = rng.normal(size=5).astype(np.float32)
    updates, state = tx.update(jnp.asarray(gradient), state, params)
    params = optax.apply_updates(params, updates)
    g = gradient / max(1.0, np.linalg.norm(gradient)) + 0.01 * w
    v = 0.9 * v + g
    w = w - 0.1 * (g + 0.9 * v if nesterov else v)
    np.testing.assert_allclose(params, w, rtol=1e-5)


def test_without_momentum_nothing_is_held():
  tx = optim.sgd(lambda _: 0.1, momentum=0.0, weight_decay=0.01)
  held = jax.eval_shape(tx.init, jnp.zeros((1000, 8)))
  assert sum(leaf.size for leaf in jax.tree.leaves(held)) <= 1
  params = jnp.ones(3)
  updates, _ = tx.update(jnp.full(3, 2.0), tx.init(params), params)
  np.testing.assert_allclose(updates, -0.1 * (2 + 0.01), rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_decay_is_decoupled(name):
  rng = np.random.default_rng(0)
  make = {"adamw": optim.adamw, "lion": optim.lion}[name]
  tx = make(
    lambda _: 0.1, beta1=0.8, beta2=0.95, weight_decay=0.02, clip_norm=1.0
  )
  w = rng.normal(size=5).astype(np.float32)
  m, v = np.zeros(5), np.zeros(5)
  params, state = jnp.asarray(w), tx.init(jnp.asarray(w))
  for t in range(1, 5):
    gradient = rng.normal(size=5).astype(np.float32)
    updates, state = tx.update(jnp.asarray(gradient), state, params)
    params = optax.apply_updates(params, updates)
    g = gradient / max(1.0, np.linalg.norm(gradient))
    if name == "lion":
      move = np.sign(0.8 * m + 0.2 * g)
      m = 0.95 * m + 0.05 * g
    else:
      m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g**2
      move = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
    w = w - 0.1 * (move + 0.02 * w)
    np.testing.assert_allclose(params, w, rtol=1e-5, atol=1e-6)
