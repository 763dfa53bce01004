"""Sparse softmaxes: tau, probabilities, loss and gradient."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import paths, platforms

from facejax.losses import alpha, divergence

GOLDEN = json.loads((paths.GOLDEN / "golden_alpha.json").read_text())
CASES = GOLDEN["cases"]


def name(case):
  return "-".join(
    str(case[key]) for key in ("alpha", "scale", "margin_kind", "margin")
  )


def inputs(case, dtype):
  """The others' logits, the target's, the constants."""
  theta = case["scale"] * np.array(case["cosine"])
  amount = case["scale"] * case["margin"]
  y, kind = case["label"], case["margin_kind"]
  theta[y] -= amount if kind == "logit" else 0
  form = divergence.Divergence(
    case["alpha"], -amount if kind == "reference" else 0.0
  )
  others = jnp.asarray(np.delete(theta, y), dtype)[None, :]
  return others, jnp.asarray(theta[y : y + 1], dtype), form


def test_the_file_has_every_kind():
  kinds = {(case["alpha"], case["margin_kind"]) for case in CASES}
  assert kinds == set(
    itertools.product((1.1, 1.25, 1.5, 2, 3), ("none", "logit", "reference"))
  )
  assert len(CASES) == 80


@pytest.mark.parametrize("case", CASES, ids=name)
def test_golden(case):
  with jax.enable_x64(True), platforms.on_cpu():
    others, target, form = inputs(case, np.float64)
    solved = alpha.solve_all(others, target, form)
    d_others, d_target = jax.grad(
      lambda a, b: alpha.loss(a, b, form).sum(), (0, 1)
    )(others, target)
    solved, d_others, d_target = jax.device_get((solved, d_others, d_target))
  np.testing.assert_allclose(solved.tau, case["tau"], rtol=1e-12, atol=1e-12)
  np.testing.assert_allclose(solved.loss, case["loss"], rtol=1e-11, atol=1e-11)
  assert solved.support == case["support"]
  wanted = np.array(case["p"])
  wanted[case["label"]] -= 1
  y = case["label"]
  np.testing.assert_allclose(d_others[0], np.delete(wanted, y), atol=1e-12)
  np.testing.assert_allclose(d_target[0], wanted[y], atol=1e-12)


@pytest.mark.parametrize(
  "case", [case for case in CASES if case["alpha"] <= 2], ids=name
)
def test_golden_in_float32(case):
  others, target, form = inputs(case, np.float32)
  loss, (d_others, d_target) = jax.value_and_grad(
    lambda a, b: alpha.loss(a, b, form).sum(), (0, 1)
  )(others, target)
  np.testing.assert_allclose(loss, case["loss"], rtol=2e-6, atol=2e-5)
  y = case["label"]
  p = np.array(case["p"])
  # A logit near 64 is known to 4e-6.
  np.testing.assert_allclose(d_others[0], np.delete(p, y), atol=2e-5)
  np.testing.assert_allclose(d_target[0], p[y] - 1, atol=2e-5)


@pytest.mark.parametrize("log_reference", [0.0, -1.5])
@pytest.mark.parametrize("a", [1.1, 1.25, 1.5, 2.0])
def test_the_gradient_is_that_of_the_loss(a, log_reference):
  rng = np.random.default_rng(3)
  with jax.enable_x64(True), platforms.on_cpu():
    form = divergence.Divergence(a, log_reference)
    theta = 4 * rng.normal(size=(1, 9))
    others, target = jnp.asarray(theta), jnp.asarray([1.0])
    slopes = jax.grad(lambda a, b: alpha.loss(a, b, form).sum(), (0, 1))(
      others, target
    )
    step = 1e-5
    for j in range(9):
      moved = np.eye(9)[j : j + 1] * step
      up, down = (
        alpha.loss(others + sign * moved, target, form) for sign in (1, -1)
      )
      np.testing.assert_allclose(
        (up - down) / (2 * step), slopes[0][:, j], atol=1e-8
      )
    up, down = (
      alpha.loss(others, target + sign * step, form) for sign in (1, -1)
    )
    np.testing.assert_allclose((up - down) / (2 * step), slopes[1], atol=1e-8)


def sparsemax(theta):
  """Martins and Astudillo, 2016, Algorithm 1."""
  z = np.sort(theta)[::-1]
  k = np.arange(1, len(z) + 1)
  inside = 1 + k * z > np.cumsum(z)
  tau = (np.cumsum(z)[inside][-1] - 1) / k[inside][-1]
  return np.maximum(theta - tau, 0)


def entmax15(theta):
  """Peters, Niculae and Martins, 2019, Algorithm 2."""
  z = np.sort(theta)[::-1] / 2
  k = np.arange(1, len(z) + 1)
  mean, square = np.cumsum(z) / k, np.cumsum(z * z) / k
  delta = (1 - k * (square - mean**2)) / k
  tau = mean - np.sqrt(np.maximum(delta, 0))
  chosen = tau[(tau <= z).sum() - 1]
  return np.maximum(theta / 2 - chosen, 0) ** 2


@pytest.mark.parametrize(("a", "closed"), [(2.0, sparsemax), (1.5, entmax15)])
def test_closed_forms(a, closed):
  theta = 2 * np.random.default_rng(1).normal(size=50)
  with jax.enable_x64(True), platforms.on_cpu():
    form = divergence.Divergence(a)
    others, target = jnp.asarray(theta[None, 1:]), jnp.asarray(theta[:1])
    tau = alpha.solve_all(others, target, form).tau
    p = divergence.probabilities(jnp.asarray(theta) - tau, form)
  np.testing.assert_allclose(p, closed(theta), atol=1e-14)


def test_near_one_it_is_the_softmax():
  theta = np.random.default_rng(2).normal(size=(1, 8))
  with jax.enable_x64(True), platforms.on_cpu():
    form = divergence.Divergence(1 + 1e-6)
    others, target = jnp.asarray(theta[:, 1:]), jnp.asarray(theta[:, 0])
    loss = alpha.loss(others, target, form)
    wanted = jax.nn.logsumexp(theta, axis=1) - theta[:, 0]
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_a_sharp_answer_costs_nothing():
  form = divergence.Divergence(1.5)
  others = jnp.array([[3.0, 60.0, -jnp.inf], [3.0, 61.99, -jnp.inf]])
  target = jnp.array([62.0, 64.0])
  solved = alpha.solve_all(others, target, form)
  assert solved.loss[0] == 0 == solved.others[0] and solved.support[0] == 1
  # From there on the gap is 1 / (alpha - 1) or more.
  assert solved.loss[1] == pytest.approx(0, abs=1e-5)
  alone = alpha.solve_all(jnp.full((1, 2), -jnp.inf), jnp.array([0.5]), form)
  assert alone.tau == 0.5 and alone.loss == 0


def test_nan_ends():
  form = divergence.Divergence(1.5)
  loss = alpha.loss(jnp.array([[jnp.nan, 1.0]]), jnp.array([0.0]), form)
  assert np.isnan(loss)


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"alpha": 1.0}, r"alpha=1.0 is out of range: allowed is \(1, inf\)"),
    ({"log_reference": 0.5}, r"log_reference=0.5 .* \[-80, 0\]"),
    ({"alpha": 3.0, "log_reference": -50.0}, "leaves float32"),
  ],
)
def test_refusals(options, says):
  with pytest.raises(ValueError, match=says):
    divergence.Divergence(**options)
