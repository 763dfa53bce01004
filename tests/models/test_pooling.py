"""Pooling and normalisation across channels, against plain loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.models import pooling


def loop_pool(x, stride, kind):
  """3x3 windows about every stride-th pixel, one by one."""
  batch, height, width, channels = x.shape
  out = np.zeros(
    (batch, math.ceil(height / stride), math.ceil(width / stride), channels)
  )
  for b, i, j, c in np.ndindex(out.shape):
    rows = slice(max(i * stride - 1, 0), i * stride + 2)
    columns = slice(max(j * stride - 1, 0), j * stride + 2)
    window = x[b, rows, columns, c]
    out[b, i, j, c] = (
      window.max() if kind == "max" else np.sqrt((window**2).sum())
    )
  return out


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "l2"])
@pytest.mark.parametrize("size", [(4, 4), (5, 6), (1, 3)])
def test_pooling_against_a_loop(kind, stride, size):
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32) - 1
  pool = pooling.max_pool if kind == "max" else pooling.l2_pool
  actual = pool(jnp.asarray(x), stride=stride)
  np.testing.assert_allclose(actual, loop_pool(x, stride, kind), atol=1e-5)


@pytest.mark.parametrize("channels", [2, 5, 9])
def test_local_response_norm_against_a_loop(channels):
  x = np.random.default_rng(0).normal(size=(2, 3, channels)) * 100
  expected = np.zeros_like(x)
  for b, i, c in np.ndindex(x.shape):
    window = x[b, i, max(c - 2, 0) : c + 3]
    expected[b, i, c] = x[b, i, c] / (1 + 1e-4 / 5 * (window**2).sum()) ** 0.75
  actual = pooling.local_response_norm(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  assert np.abs(expected / x).min() < 0.9  # it did change something


def test_gradient_of_l2_pooling_is_zero_at_zero():
  def total(x):
    return pooling.l2_pool(x).sum()

  zero = jnp.zeros((1, 4, 4, 2))
  np.testing.assert_array_equal(jax.grad(total)(zero), 0)
  tiny = jax.grad(total)(zero.at[0, 1, 1, 0].set(1e-12))
  assert 0 < tiny.max() < 1
