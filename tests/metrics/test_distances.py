"""Distances: properties, conversions, bad input."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from facejax.metrics import distances

# Their squares do not vanish.
numbers = st.floats(-1e6, 1e6).map(lambda x: x if abs(x) > 1e-100 else 0.0)
vectors = hnp.arrays(np.float64, (2, 5), elements=numbers)


@settings(max_examples=300, deadline=None)
@given(vectors, st.floats(1e-100, 1e100))
def test_distance_of_units_is_twice_the_cosine_distance(ab, scale):
  a, b = ab
  assume(a.any() and b.any())
  cosine = distances.cosine_similarity(a, b)
  square = distances.squared_euclidean_of_units(a, b)
  assert -1 <= cosine <= 1
  np.testing.assert_allclose(square, 2 * (1 - cosine), atol=1e-14)
  np.testing.assert_allclose(
    distances.cosine_distance(a, b), 1 - cosine, atol=1e-14
  )
  # Length changes distances, never angles.
  np.testing.assert_allclose(
    distances.cosine_similarity(a, scale * b), cosine, atol=1e-14
  )


@settings(max_examples=100, deadline=None)
@given(vectors)
def test_norms_bound_each_other(ab):
  a, b = ab
  straight, blocks = distances.euclidean(a, b), distances.manhattan(a, b)
  slack = 1 + 1e-12
  assert straight <= blocks * slack
  assert blocks <= np.sqrt(5) * straight * slack


@settings(max_examples=100, deadline=None)
@given(st.floats(-1, 1))
def test_thresholds_convert_back(cosine):
  square = distances.squared_euclidean_of_cosine(cosine)
  back = distances.cosine_of_squared_euclidean(square)
  np.testing.assert_allclose(back, cosine, atol=1e-15)


def test_near_vectors_keep_their_distance():
  """1 - cosine would be rounding noise here."""
  a, b = [1.0, 0.0], [1.0, 1e-9]
  np.testing.assert_allclose(
    distances.squared_euclidean_of_units(a, b), 1e-18, rtol=1e-6
  )


def test_rows_and_pairs():
  random = np.random.default_rng(0)
  a, b = random.normal(size=(4, 6)), random.normal(size=(3, 6))
  for metric in (
    distances.euclidean,
    distances.manhattan,
    distances.cosine_similarity,
    distances.cosine_distance,
    distances.squared_euclidean_of_units,
  ):
    matrix = distances.pairwise(metric, a, b)
    assert matrix.shape == (4, 3)
    np.testing.assert_allclose(matrix[:3].diagonal(), metric(a[:3], b))
    assert metric(a[0], b[2]) == pytest.approx(matrix[0, 2])
  shifted = distances.adjusted_cosine(a[:3], b, mean=a.mean(axis=0))
  centred = distances.cosine_similarity(a[:3] - a.mean(0), b - a.mean(0))
  np.testing.assert_array_equal(shifted, centred)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: distances.euclidean([1, 2], [1, 2, 3]), r"\(2,\).*\(3,\)"),
    (lambda: distances.manhattan(1, 2), r"\[..., dim\]"),
    (lambda: distances.manhattan([np.nan], [0]), "a holds .* not finite"),
    (lambda: distances.cosine_similarity([1, 2], [0, 0]), "b holds a zero"),
    (
      lambda: distances.cosine_distance([[1], [0]], [[1], [1]]),
      r"a holds a zero vector at \(1,\)",
    ),
    (lambda: distances.adjusted_cosine([1, 2], [3, 4], mean=[1, 2]), "a holds"),
    (
      lambda: distances.adjusted_cosine([1, 2], [3, 4], mean=[1, 2, 3]),
      r"mean of shape \(3,\)",
    ),
    (lambda: distances.cosine_of_squared_euclidean([1, 4.1]), r"4.1.*\[0, 4\]"),
    (lambda: distances.squared_euclidean_of_cosine(-2), r"-2.0.*\[-1, 1\]"),
    (
      lambda: distances.pairwise(distances.euclidean, [[1, 2]], [[1]]),
      r"\(1, 2\) and b \(1, 1\)",
    ),
  ],
)
def test_bad_input_is_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
