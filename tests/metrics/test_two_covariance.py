"""The model of two covariances against SciPy's normal distributions."""

import numpy as np
import pytest
from scipy import stats

from facejax.metrics import two_covariance

DIM, PEOPLE = 5, 400


@pytest.fixture(scope="module")
def drawn():
  """People with 2 to 6 images of known covariances."""
  rng = np.random.default_rng(0)
  mix = rng.normal(size=(DIM, DIM))
  within = mix @ mix.T / DIM + 0.2 * np.eye(DIM)
  between = np.diag([4.0, 2.0, 1.0, 0.5, 0.0])
  labels = np.repeat(np.arange(PEOPLE), rng.integers(2, 7, PEOPLE))
  people = rng.normal(size=(PEOPLE, DIM)) @ np.sqrt(between) + 3
  noise = rng.multivariate_normal(np.zeros(DIM), within, len(labels))
  return people[labels] + noise, labels, within, between


def test_moments_add_up_over_blocks_and_weigh(drawn):
  vectors, labels, *_ = drawn
  weights = np.random.default_rng(1).random(len(labels))
  whole = two_covariance.moments(vectors, labels, weights, PEOPLE)
  parts = [
    two_covariance.moments(vectors[s], labels[s], weights[s], PEOPLE)
    for s in (slice(0, 500), slice(500, None))
  ]
  for k, name in enumerate(two_covariance.PersonMoments._fields):
    np.testing.assert_allclose(
      whole[k], parts[0][k] + parts[1][k], atol=1e-9, err_msg=name
    )
  mine = labels == 7
  np.testing.assert_allclose(whole.sums[7], weights[mine] @ vectors[mine])
  np.testing.assert_allclose(
    whole.products, np.einsum("n,ni,nj->ij", weights, vectors, vectors)
  )


def test_covariances_are_found_again(drawn):
  vectors, labels, within, between = drawn
  ones = np.ones(len(labels))
  model = two_covariance.fit(
    two_covariance.moments(vectors, labels, ones, PEOPLE)
  )
  back = np.linalg.inv(model.matrix)
  np.testing.assert_allclose(
    back.T @ np.diag(model.within) @ back, within, atol=0.15
  )
  np.testing.assert_allclose(
    back.T @ np.diag(model.between) @ back, between, atol=0.6
  )
  assert (np.diff(model.between) <= 0).all()
  # 1, but for what it was shrunk by.
  assert (abs(model.within - 1) < 0.2).all()
  units = model.unit(vectors)
  np.testing.assert_allclose(np.linalg.norm(units, axis=1), 1)


def test_ratio_is_that_of_normal_distributions():
  rng = np.random.default_rng(2)
  between, within = np.array([3.0, 1.0, 0.0]), np.array([1.0, 0.8, 1.1])
  model = two_covariance.TwoCovariance(np.zeros(3), np.eye(3), between, within)
  a, b = rng.normal(size=(2, 4, 3))
  n, m = np.array([1, 3, 8, 2.0]), np.array([2, 1, 30, 5.0])
  found = two_covariance.log_likelihood_ratio(model, (a, n), (b, m))
  for k in range(4):
    one, other = (np.diag(between + within / c[k]) for c in (n, m))
    shared = np.diag(between)
    joint = np.block([[one, shared], [shared, other]])
    log = stats.multivariate_normal.logpdf
    expected = log(np.concatenate([a[k], b[k]]), cov=joint)
    expected -= log(a[k], cov=one) + log(b[k], cov=other)
    np.testing.assert_allclose(found[k], expected)


def test_one_image_each_is_no_error():
  vectors = np.random.default_rng(3).normal(size=(6, 4))
  found = two_covariance.moments(vectors, np.arange(6), np.ones(6), 6)
  model = two_covariance.fit(found)
  assert all(np.isfinite(part).all() for part in model)
