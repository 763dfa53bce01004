"""Prototypes and optimizer state in less than float32, rounded at random."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.head import api, storage
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim

MOMENTUM = heads.DECAY
KEY = jax.random.key(2)
ROWS = 20_000

words = jax.jit(storage.row_words)


@functools.partial(jax.jit, static_argnames=("rows", "salt"))
def round_many(x, *, rows=ROWS, salt=0):
  """What a row x [dim] becomes in rows [rows, dim] of its own words."""
  x = jnp.broadcast_to(x[None], (rows, x.shape[0]))
  like = jnp.zeros(x.shape, jnp.uint16)
  drawn = storage.row_words(KEY, jnp.arange(rows))
  return storage.load(storage.store(x, like, drawn, salt=salt))


def neighbours(x):
  """The bfloat16 values next to x, towards 0 and away from it."""
  bits = np.float32(x).view(np.uint32) & np.uint32(0xFFFF0000)
  return bits.view(np.float32), (bits + np.uint32(0x10000)).view(np.float32)


@pytest.mark.parametrize("salt", [0, 1, 5])
def test_rounding_is_unbiased(salt):
  """The mean over many rows is x, within five sigma, in every column."""
  rng = np.random.default_rng(salt)
  x = rng.normal(size=64) * 10.0 ** rng.integers(-9, 9, size=64)
  x = np.append(x, [1 + 2**-8, 1 + 2**-15, -(1 + 3 * 2**-10)])
  x = x.astype(np.float32)
  low, high = neighbours(x)
  rounded = np.asarray(round_many(x, salt=salt), np.float64)
  assert ((rounded == low) | (rounded == high)).all()
  share = (x - low.astype(np.float64)) / (high.astype(np.float64) - low)
  ups = (rounded == high).mean(axis=0)
  sigma = np.sqrt(share * (1 - share) / ROWS)
  assert (np.abs(ups - share) <= 5 * sigma + 1e-9).all()


def test_rounding_errors_are_independent():
  """Between columns, between rows and between the arrays of a row."""
  x = np.full(48, 1 + 2**-8, np.float32)  # half way
  ups = [np.asarray(round_many(x, salt=salt)) > 1 + 2**-8 for salt in (0, 1, 2)]
  signs = np.concatenate([2.0 * up - 1 for up in ups], axis=1)
  columns = signs.T @ signs / ROWS - np.eye(signs.shape[1])
  assert np.abs(columns).max() < 5.5 / np.sqrt(ROWS)
  rows = signs[:400] @ signs[:400].T / signs.shape[1] - np.eye(400)
  assert np.abs(rows).max() < 6 / np.sqrt(signs.shape[1])
  # A run of rows is no more even than chance would have it.
  totals = signs.sum(axis=1)
  assert totals.var() == pytest.approx(signs.shape[1], rel=0.05)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_stored_values_are_next_to_the_given(value):
  x = np.float32(np.clip(value, -3e38, 3e38))
  low, high = neighbours(x)
  stored = np.asarray(round_many(np.full(1, x), rows=8))
  assert ((stored == low) | (stored == high)).all()
  # What bfloat16 holds stays.
  assert (np.asarray(round_many(np.full(1, low), rows=8)) == low).all()
  nearest = np.asarray(storage.load(storage.encode(jnp.array(x), "bfloat16")))
  assert nearest in (low, high)
  assert abs(nearest - np.float64(x)) <= abs(high - np.float64(low)) / 2


def test_float32_is_stored_as_it_is():
  x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
  stored = storage.store(x, jnp.zeros((5, 3)), None, salt=0)
  np.testing.assert_array_equal(stored, x)


def test_words_belong_to_class_ids():
  ids = np.random.default_rng(0).permutation(1000).astype(np.int32)
  all_words = np.asarray(words(KEY, jnp.arange(1000)))
  np.testing.assert_array_equal(words(KEY, ids[:77]), all_words[ids[:77]])
  assert len(np.unique(all_words)) == 1000
  other = np.asarray(words(jax.random.key(3), jnp.arange(1000)))
  assert (other != all_words).all()


@pytest.mark.parametrize(
  ("dtype", "kept"), [("bfloat16", "u2"), ("float8", "u1")]
)
@pytest.mark.parametrize(
  ("shape", "options"),
  [
    ((8, 8), {}),
    ((2, 2), {"saved_bytes": 4 * 10 * 16 * 2}),
    ((8, 8), {"implementation": "partial_fc", "rate": 0.3}),
    ((8, 2), {"implementation": "sparse", "rate": 0.3}),
  ],
  ids=str,
)
def test_a_step_does_not_depend_on_the_mesh(shape, options, dtype, kept):
  """But where a last bit of float32 decides, which is seldom."""
  problem = heads.problem(101, dim=64)
  run = functools.partial(
    heads.step,
    problem,
    tx=MOMENTUM,
    key=KEY,
    dtype=dtype,
    **options,
  )
  alone, before, _ = run()
  result, _, _ = run(shape)
  assert result.state.prototypes.dtype == kept
  for actual, want in (
    (result.state.prototypes, alone.state.prototypes),
    (
      heads.momentum(result.state.optimizer),
      heads.momentum(alone.state.optimizer),
    ),
  ):
    assert not actual[101:].any(), "padding moved"
    differ = (actual[:101] != want).mean()
    assert differ < 2e-3
  rows = heads.changed_rows(result.state.prototypes[:101], before)
  assert 30 <= len(rows) <= (50 if options.get("rate") else 101)


@functools.partial(jax.jit, static_argnames=("dtype", "mesh"))
def train(embeddings, labels, *, dtype, mesh):
  """Losses of 30 steps."""
  tx = optim.sgd(optax.constant_schedule(0.5), momentum=0.9, weight_decay=5e-4)
  head = api.Head(
    heads.COSFACE, 50, mesh, tx=tx, storage=dtype, optimizer_storage=dtype
  )

  def one(state, batch):
    key = jax.random.fold_in(KEY, batch[2])
    result = head.update(state, *batch[:2], key=key)
    return result.state, result.output.loss.mean()

  numbers = jnp.arange(embeddings.shape[0])
  start = head.init(KEY, dim=32)
  return jax.lax.scan(one, start, (embeddings, labels, numbers))[1]


def test_training_follows_float32():
  rng = np.random.default_rng(0)
  centers = rng.normal(size=(50, 32))
  labels = rng.integers(50, size=(30, 64)).astype(np.int32)
  x = (centers[labels] + 0.5 * rng.normal(size=(30, 64, 32))).astype("f4")
  mesh = mesh_lib.make_mesh(devices=2, model=2)
  losses = {
    dtype: np.asarray(train(x, labels, dtype=dtype, mesh=mesh))
    for dtype in ("float32", "bfloat16", "float8")
  }
  assert losses["float32"][-5:].mean() < 0.3 * losses["float32"][0]
  np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)
  np.testing.assert_allclose(losses["float8"], losses["float32"], rtol=0.15)


def test_small_updates_move_weights_on_average():
  """Rounded to the nearest, not one weight would move."""
  problem = heads.problem(400, dim=64)
  tx = optax.sign_sgd(1e-4)
  result, bits, _ = heads.step(
    problem, (2, 2), tx=tx, key=KEY, dtype="bfloat16"
  )
  w = np.asarray(storage.load(bits))
  exact, _, _ = heads.step(problem._replace(prototypes=w), (2, 2), tx=tx)
  wanted = exact.state.prototypes - w
  # Half a unit in the last place is at least twice as large.
  small = np.abs(wanted) < 2.0**-10 * np.abs(w)
  assert small.mean() > 0.9
  nearest = np.asarray(storage.encode(exact.state.prototypes, "bfloat16"))
  np.testing.assert_array_equal(nearest[small], bits[small])
  moved = np.asarray(storage.load(result.state.prototypes)) - w
  assert (moved[small] != 0).any()
  low, high = neighbours(exact.state.prototypes)
  share = np.abs((exact.state.prototypes - low) / (high - low))
  spread = (high - low) ** 2 * share * (1 - share)
  weight = wanted * small
  slope = (weight * moved).sum() / (weight * wanted).sum()
  sigma = np.sqrt((weight**2 * spread).sum()) / (weight * wanted).sum()
  assert sigma < 0.1
  assert abs(slope - 1) < 4 * sigma


@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "sparse"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float8"])
def test_rounding_without_a_key_is_refused(implementation, dtype):
  with pytest.raises(ValueError, match="key=None: .* need one a step"):
    heads.step(
      heads.problem(9),
      tx=MOMENTUM,
      dtype=dtype,
      key=None,
      implementation=implementation,
    )
