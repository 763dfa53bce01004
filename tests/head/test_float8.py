"""Rows of float8 with a power of two a quarter."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from helpers import heads
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.head import float8, storage

KEY = jax.random.key(2)
ROWS = 20_000

pack = jax.jit(float8.pack)
unpack = jax.jit(storage.load)


def nearest(x):
  """The same by ml_dtypes, in double precision: x [rows, dim]."""
  found, width = np.zeros(x.shape), -(-x.shape[1] // 4)
  for start in range(0, x.shape[1], width):
    part = x[:, start : start + width].astype(np.float64)
    largest = np.abs(part).max(axis=1, keepdims=True)
    scale = 2.0 ** (np.floor(np.log2(np.where(largest > 0, largest, 1))) - 7)
    codes = (part / scale).astype(ml_dtypes.float8_e4m3fn)
    found[:, start : start + width] = codes.astype(np.float64) * scale
  return found


def neighbours(x):
  """The float8 values next to x [dim], towards 0 and away from it."""
  width = -(-x.shape[0] // 4)
  parts = [np.abs(x[i : i + width]).max() for i in range(0, x.shape[0], width)]
  scale = np.repeat(2.0 ** (np.floor(np.log2(parts)) - 7), width)[: x.shape[0]]
  y = np.abs(x.astype(np.float64)) / scale
  step = 2.0 ** (np.maximum(np.floor(np.log2(np.maximum(y, 1e-30))), -6) - 3)
  low = np.floor(y / step) * step
  return np.sign(x) * low * scale, np.sign(x) * (low + step) * scale


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 6, 128, 130])
def test_rounds_to_the_nearest(dim):
  rng = np.random.default_rng(dim)
  x = rng.normal(size=(500, dim)) * 10.0 ** rng.integers(-30, 30, (500, 1))
  x *= 10.0 ** rng.integers(-4, 1, (500, dim))  # within a quarter
  x = x.astype(np.float32)
  x[0], x[1, dim // 2] = 0, 0
  packed = pack(x, float8.NEAREST)
  assert packed.shape == (500, dim + 4) and packed.dtype == np.uint8
  np.testing.assert_array_equal(unpack(packed), nearest(x))
  assert not np.asarray(packed)[0].any()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(width=32), min_size=8, max_size=8))
def test_any_numbers_come_back_near_or_not_finite(values):
  x = np.array(values, np.float32)
  # Larger ones may be rounded up to what float32 has no number for.
  x = np.where(np.isfinite(x), np.clip(x, -3e38, 3e38), x)
  found = np.asarray(unpack(pack(x, float8.NEAREST)))
  for start in range(0, 8, 2):
    part, got = x[start : start + 2], found[start : start + 2]
    largest = np.abs(part).max()
    if not np.isfinite(largest):
      assert not np.isfinite(got).all()
      continue
    # Half a unit of three bits, or half of what the smallest code is.
    allowed = np.maximum(np.abs(part) / 16, largest * 2.0**-17)
    assert (np.abs(got - np.float64(part)) <= allowed + 1e-37).all()


@pytest.mark.parametrize("noise", [0, float8.NEAREST, 2**20 - 1])
def test_what_float8_holds_stays(noise):
  x = np.random.default_rng(0).normal(size=(300, 96)).astype(np.float32)
  held = unpack(pack(x, float8.NEAREST))
  # Twice as long is as exact: only scales change.
  for value in (held, 2 * held, held / 64):
    np.testing.assert_array_equal(unpack(pack(value, noise)), value)


@functools.partial(jax.jit, static_argnames=("salt",))
def round_many(x, *, salt=0):
  """What a row x [dim] becomes in rows [ROWS, dim] of its own words."""
  x = jnp.broadcast_to(x[None], (ROWS, x.shape[0]))
  like = jnp.zeros((ROWS, x.shape[1] + 4), jnp.uint8)
  words = storage.row_words(KEY, jnp.arange(ROWS))
  return storage.load(storage.store(x, like, words, salt=salt))


@pytest.mark.parametrize("salt", [0, 1])
def test_rounding_is_unbiased(salt):
  """The mean over many rows is x, within five sigma, in every column."""
  rng = np.random.default_rng(salt)
  x = rng.normal(size=64) * 10.0 ** rng.integers(-5, 1, size=64)
  x = x.astype(np.float32)
  low, high = neighbours(x)
  rounded = np.asarray(round_many(x, salt=salt), np.float64)
  assert ((rounded == low) | (rounded == high)).all()
  share = (x - low) / (high - low)
  ups = (rounded == high).mean(axis=0)
  sigma = np.sqrt(share * (1 - share) / ROWS)
  assert (np.abs(ups - share) <= 5 * sigma + 1e-9).all()


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize("centers", [1, 3])
def test_a_step_is_that_of_the_values_that_are_kept(shape, centers):
  """Loss and gradients are exact; what is written is next to the exact."""
  problem = heads.problem(101, dim=32, centers=centers)
  tx = optax.sgd(0.5)
  result, bits, _ = heads.step(problem, shape, tx=tx, key=KEY, dtype="float8")
  # On one device.
  w = np.asarray(storage.load(jnp.asarray(bits)))[:101]
  exact, _, _ = heads.step(problem._replace(prototypes=w), tx=tx)
  np.testing.assert_allclose(
    result.output.loss, exact.output.loss, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(
    result.d_embeddings, exact.d_embeddings, rtol=1e-4, atol=1e-7
  )
  after = np.asarray(storage.load(jnp.asarray(result.state.prototypes)))[:101]
  wanted = exact.state.prototypes[:101]
  largest = np.abs(wanted).max(axis=-1, keepdims=True)
  allowed = np.maximum(np.abs(wanted) / 8, largest * 2.0**-16)
  assert (np.abs(after - wanted) <= 1.001 * allowed).all()
  assert (after != w).any()
