"""Center loss and its update: what the golden vectors leave out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import center


def batch(classes=5, examples=12, dim=3):
  random = np.random.default_rng(0)
  return (
    jnp.asarray(random.normal(size=(classes, dim)), jnp.float32),
    jnp.asarray(random.normal(size=(examples, dim)), jnp.float32),
    random.integers(0, classes - 1, examples),
  )


@pytest.mark.parametrize("rule", ["paper", "facenet"])
def test_update_is_its_definition(rule):
  centers, x, labels = batch()
  want = np.array(centers)
  for j in range(len(centers)):
    mine = np.asarray(x)[labels == j]
    delta = (want[j] - mine).sum(axis=0)
    want[j] -= 0.3 * (delta / (1 + len(mine)) if rule == "paper" else delta)
  new = jax.jit(lambda *a: center.update_centers(*a, rate=0.3, rule=rule))(
    centers, x, labels
  )
  np.testing.assert_allclose(new, want, atol=1e-6)
  np.testing.assert_array_equal(new[-1], centers[-1])  # absent


def test_update_nears_the_mean_and_overshoots_only_by_the_facenet_rule():
  centers, x, _ = batch()
  labels = np.zeros(len(x), int)
  mean = np.asarray(x).mean(axis=0)

  def after(**options):
    new = center.update_centers(centers, x, labels, **options)
    return np.linalg.norm(new[0] - mean)

  before = np.linalg.norm(centers[0] - mean)
  assert after(rate=1.0) == pytest.approx(before / 13, rel=1e-4)
  assert after(rate=0.5, rule="facenet") == pytest.approx(before * 5, rel=1e-4)


def test_rate_zero_and_gradient():
  centers, x, labels = batch()
  same = center.update_centers(centers, x, labels, rate=0.0)
  np.testing.assert_array_equal(same, centers)
  slopes = jax.grad(
    lambda c, x: center.update_centers(c, x, labels).sum(), (0, 1)
  )(centers, x)
  assert all((np.asarray(slope) == 0).all() for slope in slopes)


def test_loss_at_the_center_is_zero():
  centers, _, labels = batch()
  x = centers[labels]
  value, slope = jax.value_and_grad(
    lambda x: center.center_loss(x, centers[labels]).sum()
  )(x)
  assert value == 0 and (np.asarray(slope) == 0).all()


def test_bfloat16_is_computed_in_float32():
  centers, x, labels = batch()
  x = x.astype(jnp.bfloat16)
  values = center.center_loss(x, centers[labels])
  assert values.dtype == jnp.float32
  np.testing.assert_array_equal(
    values, center.center_loss(x.astype(jnp.float32), centers[labels])
  )
  assert center.update_centers(centers, x, labels).dtype == jnp.float32


def test_wrong_arguments():
  centers, x, labels = batch()
  with pytest.raises(ValueError, match=r"pass centers\[labels\]"):
    center.center_loss(x, centers)
  with pytest.raises(ValueError, match="choose one of"):
    center.update_centers(centers, x, labels, rule="mean")  # pyright: ignore
