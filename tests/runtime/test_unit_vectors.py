"""Vectors of any length are brought to length 1, and so are their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads

from facejax.head import logits, objective
from facejax.losses import margins
from facejax.runtime import unit_vectors

EXPONENTS = {
  np.float32: [-38, -19, 0, 9, 12, 15, 18, 20, 30, 36],
  np.float64: [-11, 0, 50, 75, 100, 110, 150, 200, 300],
}
CASES = [
  (dtype, exponent)
  for dtype, exponents in EXPONENTS.items()
  for exponent in exponents
]


def vectors(shape=(3, 16)):
  return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(("dtype", "exponent"), CASES)
def test_direction_and_gradient_do_not_depend_on_length(dtype, exponent):
  x, weights = vectors(), np.arange(16.0)
  length = np.linalg.norm(x, axis=1, keepdims=True)
  units = x / length
  slope = (weights - (units @ weights)[:, None] * units) / length
  with jax.enable_x64(dtype == np.float64):
    scaled = jnp.asarray(x * 10.0**exponent, dtype)

    def value(x):
      slopes = jnp.asarray(weights, dtype)[None]
      return (unit_vectors.l2_normalize(x) * slopes).sum()

    found = unit_vectors.l2_normalize(scaled)
    gradient = jax.grad(value)(scaled)
  assert found.dtype == dtype
  if exponent < -12:  # as good as zero
    assert not found.any() and not gradient.any()
    return
  share = 1e-6 if dtype == np.float32 else 1e-14
  np.testing.assert_allclose(found, units, atol=share)
  gradient = np.asarray(gradient, np.float64) * 10.0**exponent
  np.testing.assert_allclose(
    gradient, slope, atol=4 * share * np.abs(slope).max()
  )


def test_usual_lengths_are_not_even_rounded_otherwise():
  x = jnp.asarray(vectors() * 1e3, jnp.float32)
  inverse = jax.lax.rsqrt((x * x).sum(axis=-1, keepdims=True))
  np.testing.assert_array_equal(unit_vectors.l2_normalize(x), x * inverse)


@pytest.mark.parametrize("exponent", [-9, 0, 9, 18, 19, 20, 30, 36])
def test_inverse_norms_of_long_prototypes(exponent):
  w = vectors() * 10.0**exponent
  found = logits.inverse_norms(jnp.asarray(w, jnp.float32))
  np.testing.assert_allclose(found, 1 / np.linalg.norm(w, axis=1), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8)])
@pytest.mark.parametrize("exponent", [13, 20, 30])
def test_long_prototypes_have_their_gradient(shape, exponent):
  problem = heads.problem(21)
  long = problem._replace(
    prototypes=(problem.prototypes * 10.0**exponent).astype(np.float32)
  )
  for head in (
    heads.COSFACE,
    objective.Objective(margins.nsl, 16.0),
  ):
    want, (dw, dx, _) = heads.float64(problem, objective=head)
    for options in ({"block_size": 8}, {"implementation": "dense"}):
      found, gradients = heads.evaluate(long, shape, objective=head, **options)
      np.testing.assert_allclose(found.loss, want.loss, rtol=1e-4)
      heads.close(gradients[1], dx, 1e-5)
      scaled = np.asarray(gradients[0], np.float64) * 10.0**exponent
      heads.close(scaled, dw, 1e-5)
