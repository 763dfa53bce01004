"""Schedules and the SGD chain against their formulas."""

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
