"""The draw of classes, and a step on the drawn ones only."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.head import objective, sampling

ONE_VS_ALL = objective.Objective(
  heads.COSFACE_MARGIN, 30.0, one_vs_all=(0.7, 0.3)
)


@functools.partial(
  jax.jit, static_argnames=("rate", "shards", "rows", "num_classes")
)
def draw_all(key, labels, *, rate, shards, rows, num_classes):
  """Row numbers [shards, n]."""
  draw = functools.partial(
    sampling.draw, key, labels, rate=rate, rows=rows, num_classes=num_classes
  )
  return jax.vmap(lambda first: draw(first=first))(rows * jnp.arange(shards))


def drawn(seed, labels, *, rate, num_classes, shards=1) -> np.ndarray:
  """Class ids that take part, in order."""
  rows = -(-num_classes // shards)
  found = draw_all(
    jax.random.key(seed),
    jnp.asarray(labels),
    rate=rate,
    shards=shards,
    rows=rows,
    num_classes=num_classes,
  )
  limit = sampling.capacity(rows=rows, batch=len(labels), rate=rate)
  assert found.shape == (shards, limit) and found.dtype == jnp.int32
  places = np.asarray(found)
  assert ((places >= -1) & (places < rows)).all()
  ids = (places + rows * np.arange(shards)[:, None])[places >= 0]
  assert len(set(ids.tolist())) == len(ids), "drawn twice"
  return np.sort(ids)


def expected_range(num_classes, rate):
  """Least and most classes drawn at a rate, whole strata and the last."""
  taken, width = sampling.stratum(rate)
  whole, rest = divmod(num_classes, width)
  return whole * taken, whole * taken + min(taken, rest)


@pytest.mark.parametrize(
  ("rate", "num_classes"),
  [(0.1, 1183), (0.3, 7), (0.3, 1000), (1 / 3, 1183), (1.0, 7), (1.0, 1000)],
)
def test_the_draw_does_not_depend_on_the_shards(rate, num_classes):
  labels = heads.problem(num_classes, batch=64).labels
  alone, *others = (
    drawn(3, labels, rate=rate, num_classes=num_classes, shards=shards)
    for shards in (1, 2, 8)
  )
  for ids in others:
    np.testing.assert_array_equal(ids, alone)
  assert set(labels.tolist()) <= set(alone.tolist())
  assert alone.min() >= 0 and alone.max() < num_classes
  low, high = expected_range(num_classes, rate)
  assert low <= len(alone) <= high + len(set(labels.tolist()))
  if rate == 1:
    np.testing.assert_array_equal(alone, np.arange(num_classes))


def test_more_positives_than_drawn():
  labels = np.arange(64) * 3
  for shards in (1, 8):
    ids = drawn(0, labels, rate=0.01, num_classes=200, shards=shards)
    assert set(labels.tolist()) <= set(ids.tolist())
    assert 64 <= len(ids) <= 66
  ids = drawn(1, np.zeros(9, int), rate=0.527, num_classes=1)
  assert ids.tolist() == [0]


@settings(max_examples=8, deadline=None)
@given(
  num_classes=st.integers(1, 300),
  rate=st.floats(0.002, 1.0),
  shards=st.integers(1, 8),
  data=st.data(),
)
def test_any_draw_has_all_positives_and_its_share(
  num_classes, rate, shards, data
):
  label = st.integers(0, num_classes - 1)
  labels = data.draw(st.lists(label, min_size=9, max_size=9))
  ids = drawn(1, labels, rate=rate, num_classes=num_classes, shards=shards)
  assert set(labels) <= set(ids.tolist()) <= set(range(num_classes))
  low, high = expected_range(num_classes, rate)
  assert low <= len(ids) <= high + len(set(labels))
  np.testing.assert_array_equal(
    ids, drawn(1, labels, rate=rate, num_classes=num_classes)
  )


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-6, 1.0, exclude_min=True))
def test_strata_keep_the_rate(rate):
  taken, width = sampling.stratum(rate)
  assert 1 <= taken <= width
  if rate >= 1e-3:
    assert width <= 1000
    assert abs(taken / width - rate) <= 1e-3 / 2
  else:  # what was asked for, not a thousandth
    assert taken / width == pytest.approx(rate, rel=1e-3)


def chi_square_quantile(freedom, normal):
  """Where a normal variable is at `normal`; by Wilson and Hilferty, 1931."""
  spread = 2 / (9 * freedom)
  return freedom * (1 - spread + normal * np.sqrt(spread)) ** 3


@pytest.mark.parametrize("rate", [0.1, 0.3, 1 / 3])
def test_draws_are_uniform_and_independent(rate):
  """Over many keys, by class and by pair of neighbouring strata."""
  taken, width = sampling.stratum(rate)
  strata, keys = 40, 600
  count = strata * width
  draw = functools.partial(
    sampling.draw,
    labels=jnp.zeros(1, jnp.int32),
    rate=rate,
    first=0,
    rows=count,
    num_classes=count,
  )
  rows = np.asarray(
    jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), keys))
  )
  is_in = np.zeros((keys, count + 1), bool)
  is_in[np.arange(keys)[:, None], rows] = True  # -1 is the last
  # The first stratum holds the positive.
  by_stratum = is_in[:, :count].reshape(keys, strata, width)[:, 1:]
  assert (by_stratum.sum(axis=2) == taken).all()
  share = by_stratum.mean(axis=0)
  sigma = np.sqrt(rate * (1 - rate) / keys)
  assert np.abs(share - rate).max() < 5 * sigma
  # Which of the `width` patterns it was.
  patterns, pattern = np.unique(
    by_stratum.reshape(-1, width), axis=0, return_inverse=True
  )
  assert len(patterns) == width
  pattern = pattern.reshape(keys, strata - 1)
  counts = np.stack([(pattern == n).sum(axis=0) for n in range(width)])
  wanted = keys / width
  statistic = ((counts - wanted) ** 2 / wanted).sum()
  assert statistic < chi_square_quantile((strata - 1) * (width - 1), 3.5)
  pairs = pattern[:, 0:-1:2] * width + pattern[:, 1::2]
  counts = np.bincount(pairs.reshape(-1), minlength=width**2)
  wanted = pairs.size / width**2
  statistic = ((counts - wanted) ** 2 / wanted).sum()
  assert statistic < chi_square_quantile(width**2 - 1, 3.5)


step = functools.partial(
  heads.step, tx=heads.DECAY, implementation="partial_fc"
)


@pytest.mark.parametrize(
  ("head", "shape"),
  [(heads.COSFACE, (1, 1)), (heads.COSFACE, (8, 2)), (ONE_VS_ALL, (8, 8))],
  ids=["softmax alone", "softmax", "one-vs-all"],
)
def test_only_drawn_rows_count_and_change(head, shape):
  count, key = 101, jax.random.key(11)
  problem = heads.problem(count)
  result, w, state = step(problem, shape, key=key, head=head, rate=0.3)
  ids = heads.changed_rows(result.state.prototypes, w)
  np.testing.assert_array_equal(
    ids,
    heads.changed_rows(
      heads.momentum(result.state.optimizer),
      heads.momentum(state),
    ),
  )
  # The same ones on every mesh, and for every loss.
  wanted = sampling.draw(
    jax.random.fold_in(key, 0),
    problem.labels,
    rate=0.3,
    first=0,
    rows=count,
    num_classes=count,
  )
  np.testing.assert_array_equal(ids, np.sort(wanted[wanted >= 0]))
  # All is as if there were no other classes.
  smaller = problem._replace(
    prototypes=problem.prototypes[ids],
    labels=np.searchsorted(ids, problem.labels).astype(np.int32),
  )
  want, (dw, dx, _) = heads.float64(smaller, objective=head)
  heads.check((result.output, result.d_embeddings), (want, dx))
  updates, new_state = heads.DECAY.update(
    jnp.asarray(dw, jnp.float32),
    jax.tree.map(lambda leaf: leaf[ids] if leaf.ndim else leaf, state),
    jnp.asarray(w[ids]),
  )
  heads.close(result.state.prototypes[ids], w[ids] + updates)
  heads.close(
    heads.momentum(result.state.optimizer)[ids],
    np.asarray(heads.momentum(new_state)),
  )


def test_each_step_draws_anew():
  problem = heads.problem(101)
  rows = [
    heads.changed_rows(result.state.prototypes, w)
    for result, w, _ in (
      step(problem, (2, 2), key=key, rate=0.1)
      for key in jax.random.split(jax.random.key(0), 2)
    )
  ]
  assert rows[0].tolist() != rows[1].tolist()


@pytest.mark.parametrize("implementation", ["partial_fc", "sparse"])
@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_bad_rates_are_named(implementation, rate):
  with pytest.raises(ValueError, match=f"rate={rate}: .* must be in .0, 1]"):
    step(
      heads.problem(9),
      key=jax.random.key(0),
      implementation=implementation,
      rate=rate,
    )


def test_sampling_without_a_key_is_refused():
  with pytest.raises(ValueError, match="key=None: sampling"):
    step(heads.problem(9), key=None)
