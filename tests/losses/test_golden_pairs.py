"""Losses of embeddings alone and center loss against the golden vectors."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import paths, platforms

from facejax.losses import anchors, center, pairwise, triplet
from facejax.metrics import distances

GOLDEN = json.loads((paths.GOLDEN / "golden_losses.json").read_text())
SCALARS = GOLDEN["scalars"]
METRIC = [c for c in GOLDEN["cases"] if c["fixture"] == "metric"]
CENTER = [c for c in GOLDEN["cases"] if c["fixture"] == "center"]
both_dtypes = pytest.mark.parametrize("dtype", platforms.DTYPES)

# Case: how triplets are mined, and the distance, of `triplet.triplet`.
TRIPLETS = {
  "triplet_explicit_sum_a0.2": (None, "squared"),
  "triplet_explicit_mean_a0.2": (None, "squared"),
  "triplet_batch_all_a0.2": ("all", "squared"),
  "triplet_batch_all_mean_a0.2": ("all", "squared"),
  "triplet_batch_hard_a0.2": ("hard", "squared"),
  "triplet_batch_hard_l2_a0.5": ("hard", "euclidean"),
  "triplet_semihard_all_a0.5": ("semi_hard", "squared"),
  "triplet_semihard_hardest_a0.5": ("semi_hard_hardest", "squared"),
  "triplet_semihard_tfa_a0.5": ("tensorflow", "squared"),
  "triplet_angular_a0.35": ("all", "angle"),
}
PAIRWISE = {
  "contrastive_hadsell_m1": lambda p: functools.partial(
    pairwise.contrastive, margin=p["margin"]
  ),
  "supcon_T0.1": lambda p: functools.partial(
    pairwise.supcon, temperature=p["T"], base_temperature=p["base_T"]
  ),
  "circle_pair_per_anchor_g80_m0.4": lambda p: functools.partial(
    pairwise.circle, scale=p["gamma"], margin=p["m"]
  ),
  "circle_pair_global_g80_m0.4": lambda p: functools.partial(
    pairwise.circle_of_batch, scale=p["gamma"], margin=p["m"]
  ),
}
PAIRWISE["supcon_T0.07"] = PAIRWISE["supcon_T0.1"]


def reduce(values, rule="mean"):
  if not isinstance(values, anchors.AnchorLoss):
    return values
  if rule == "sum":
    return values.loss.sum()
  over = "active" if rule == "mean over active" else "all"
  return anchors.mean(values, over=over)


def assert_close(actual, expected, dtype, *, gradient=False):
  """Values to 1e-9 or 2e-5, gradients to 1e-8 or 1e-4 of the largest."""
  actual, expected = np.asarray(actual), np.asarray(expected)
  assert actual.dtype == dtype and actual.shape == expected.shape
  double, size = dtype == np.float64, np.abs(expected).max()
  single = platforms.allowed(2e-5)
  if gradient:
    share = 1e-8 if double else 5 * single
    np.testing.assert_allclose(actual, expected, rtol=0, atol=share * size)
  else:
    np.testing.assert_allclose(
      actual,
      expected,
      rtol=1e-9 if double else single,
      atol=(1e-12 if double else single) * size,
    )


def bind(case, x, labels):
  """Of a case: its loss as a function of x, and the triplets it selects."""
  name, params = case["name"].split("/")[0], case["params"]
  if name in PAIRWISE:
    loss = PAIRWISE[name](params)
    return (lambda x: loss(x, labels)), None
  (mining, kind), margin = TRIPLETS[name], params["alpha"]
  if mining is None:
    chosen = triplet.explicit(params["triplets"])
    return (
      lambda x: triplet.hinge(anchors.distances(x), chosen, margin=margin)
    ), chosen
  options = {"mining": mining, "margin": margin}
  matrix = anchors.distances(x, kind=kind)
  return (
    lambda x: triplet.triplet(x, labels, distance=kind, **options)
  ), triplet.mine(matrix, labels, **options)


def run(case, dtype):
  """The loss, its gradient, the values, and the indices of the triplets."""
  fixture = GOLDEN["fixtures"]["metric"]
  x, labels = jnp.asarray(fixture["x"], dtype), jnp.asarray(fixture["y"])
  loss, selected = bind(case, x, labels)

  def objective(x):
    values = loss(x)
    # The angular case names no reduction: it is the mean over all.
    return reduce(values, case["params"].get("reduce", "mean")), values

  (value, values), dx = jax.jit(jax.value_and_grad(objective, has_aux=True))(x)
  if selected is not None:
    kept = np.asarray(selected.kept)
    columns = [np.broadcast_to(i, kept.shape)[kept] for i in selected[:3]]
    selected = np.stack(columns, axis=1)
  return value, dx, values, selected


@both_dtypes
@pytest.mark.parametrize("case", METRIC, ids=lambda case: case["name"])
def test_metric(case, dtype):
  expected = dict(case["expected"])
  with jax.enable_x64(dtype == np.float64):
    loss, dx, values, selected = run(case, dtype)
    assert_close(loss, expected.pop("loss"), dtype)
    assert_close(dx, expected.pop("dx"), dtype, gradient=True)
    if "per_sample" in expected:
      assert_close(values.loss, expected.pop("per_sample"), dtype)
    if "selected" in expected:
      np.testing.assert_array_equal(selected, expected.pop("selected"))
    if "count" in expected:
      count = [values.terms.sum(), values.active.sum()]
      if case["name"].startswith("contrastive"):
        labels = GOLDEN["fixtures"]["metric"]["y"]
        count = [mask.sum() / 2 for mask in anchors.pairs(jnp.array(labels))]
        assert sum(count) == values.terms.sum() / 2
      want = expected.pop("count")
      np.testing.assert_array_equal(count[: len(want)], want)
  assert not expected, "a number of the case was not looked at"


@both_dtypes
@pytest.mark.parametrize("case", CENTER, ids=lambda case: case["name"])
def test_center(case, dtype):
  half, reduce = {
    "center_paper": (True, jnp.sum),
    "center_batch_mean_half": (True, jnp.mean),
    "center_mean_nohalf": (False, jnp.mean),
  }[case["name"].split("/")[0]]
  fixture = GOLDEN["fixtures"]["center"]
  labels = np.array(fixture["y"])
  expected = dict(case["expected"])
  with jax.enable_x64(dtype == np.float64):
    x = jnp.asarray(fixture["x"], dtype)
    centers = jnp.asarray(fixture["centers"], dtype)

    def objective(x, centers):
      values = center.center_loss(x, centers[labels], half=half)
      return reduce(values), values

    (loss, values), (dx, dcenters) = jax.value_and_grad(
      objective, (0, 1), has_aux=True
    )(x, centers)
    assert_close(loss, expected.pop("loss"), dtype)
    assert_close(values, expected.pop("per_sample"), dtype)
    assert_close(dx, expected.pop("dx"), dtype, gradient=True)
    assert_close(dcenters, expected.pop("dcenters"), dtype, gradient=True)
  assert not expected, "a number of the case was not looked at"


@both_dtypes
def test_scalars_center_update(dtype):
  golden, fixture = SCALARS["center_update"], GOLDEN["fixtures"]["center"]
  with jax.enable_x64(dtype == np.float64):
    old, x = (jnp.asarray(fixture[key], dtype) for key in ("centers", "x"))
    y = jnp.asarray(fixture["y"])
    paper = center.update_centers(old, x, y, rate=golden["alpha"])
    facenet = center.update_centers(old, x, y, rate=1 - 0.95, rule="facenet")
    assert_close(paper, golden["new_centers"], dtype)
    assert_close((old - paper) / golden["alpha"], golden["delta"], dtype)
    assert_close(facenet, golden["sandberg_alfa0p95_new_centers"], dtype)


def test_scalars_course_notes_distances():
  golden = SCALARS["course_notes_distances"]
  x, y = golden["X"], golden["Y"]
  mean = golden["adjusted_mean"]
  actual = {
    "euclidean": distances.euclidean(x, y),
    "manhattan": distances.manhattan(x, y),
    "cosine": distances.cosine_similarity(x, y),
    "cosine_distance": distances.cosine_distance(x, y),
    "adjusted_cosine": distances.adjusted_cosine(x, y, mean=mean),
    "l2norm_sq_euclid": distances.squared_euclidean_of_units(x, y),
    "two_minus_2cos": distances.squared_euclidean_of_cosine(
      distances.cosine_similarity(x, y)
    ),
    "adjusted_X": np.subtract(x, mean),
    "adjusted_Y": np.subtract(y, mean),
  }
  for name, value in actual.items():
    np.testing.assert_allclose(value, golden[name], rtol=1e-9, err_msg=name)
  rest = {"X", "Y", "adjusted_mean", "identity"}
  assert set(golden) == set(actual) | rest


def adagrad(accumulator, eps):
  """Weights after each gradient of the golden entry, by optax."""
  golden = SCALARS["adagrad"]
  optimizer = optax.adagrad(
    golden["lr"], initial_accumulator_value=accumulator, eps=eps
  )
  w = jnp.asarray(golden["w0"])
  state, path = optimizer.init(w), []
  for gradient in golden["grads"]:
    updates, state = optimizer.update(jnp.asarray(gradient), state, w)
    w = optax.apply_updates(w, updates)
    path.append(float(jnp.asarray(w)))
  return path


@pytest.mark.parametrize(
  "name, accumulator, eps",
  [
    ("standard_acc0_eps1e10", 0.0, 1e-10),
    ("tf_acc0p1", 0.1, 0.0),
    ("optax_acc0p1_eps1e7_inside", 0.1, 1e-7),
  ],
)
def test_scalars_adagrad(name, accumulator, eps):
  with jax.enable_x64(True):
    path = adagrad(accumulator, eps)
  np.testing.assert_allclose(path, SCALARS["adagrad"][name], rtol=1e-9)


def test_scalars_adagrad_lagged():
  """Dividing by the sum *before* the step is another rule than optax's."""
  golden = SCALARS["adagrad"]
  grads = np.array(golden["grads"])
  before = np.concatenate([[0], np.cumsum(grads**2)[:-1]])
  path = golden["w0"] - np.cumsum(golden["lr"] * grads / np.sqrt(before + 1))
  lagged = golden["seed_article_lagged_acc0_eps1"]
  np.testing.assert_allclose(path, lagged, rtol=1e-9)
  assert abs(adagrad(0.0, 1.0)[0] - lagged[0]) > 1e-3


def test_every_case_is_known():
  """A case that is new in the file must be given a function above."""
  names = {case["name"].split("/")[0] for case in METRIC}
  assert names == set(TRIPLETS) | set(PAIRWISE)
  assert len(METRIC) == 15 and len(CENTER) == 3
