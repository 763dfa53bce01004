"""Every classification loss of the golden file, through the dense head."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import golden_cases, paths, platforms

from facejax.head import objective, reference
from facejax.losses import binary, margins, multiplicative

GOLDEN = json.loads((paths.GOLDEN / "golden_losses.json").read_text())
FIXTURES = ("hard", "typical", "norms", "subcenter")
CASES = [case for case in GOLDEN["cases"] if case["fixture"] in FIXTURES]


def evaluate(loss, inputs, y):
  """The loss; beside it what else the file has, by name."""
  w = inputs.W
  if loss.head.bias:
    w = jnp.concatenate([w, inputs.b[:, None]], axis=1)
  if loss.centers > 1:
    w = w.reshape(-1, loss.centers, w.shape[1])
  if loss.classes is not None:
    taken = jnp.asarray(loss.classes)
    w, y = w[taken], jnp.searchsorted(taken, y)
  head, parameters, state = loss.head, objective.Parameters(), {}
  if loss.parameters is not None:
    plain = dataclasses.replace(head, margin=margins.nsl, negative=None)
    first = reference.loss(w, inputs.x, y, objective=plain)
    parameters, state = loss.parameters(inputs, first.target_cosine)
  out = reference.loss(w, inputs.x, y, objective=head, parameters=parameters)
  return (out.loss + loss.extra(inputs, y)).mean(), {
    "per_sample": out.loss,
    "logits": logits(
      head, y, *jax.lax.stop_gradient((w, inputs.x, parameters))
    ),
    "target_cos": out.target_cosine,
    "loss_id": out.loss.mean(),
    **state,
  }


def logits(head, y, w, x, parameters):
  """[batch, num_classes], by the parts of the objective."""
  queries, lengths = head.queries(x)
  dots = (
    queries[:, None, None] * w.reshape(1, len(w), -1, queries.shape[1])
  ).sum(-1)
  n = golden_cases.norms(w.reshape(-1, w.shape[-1])).reshape(1, len(w), -1)
  if head.unit_prototypes:
    dots, n = dots / n, jnp.ones_like(n)
  dots, n = dots.max(axis=2), n[:, :, 0]
  cosine = dots / (lengths[:, None] * n)
  own = jnp.take_along_axis(cosine, y[:, None], axis=1)
  z = head.others(
    dots,
    lengths[:, None],
    own,
    {name: value[:, None] for name, value in parameters.negative.items()},
  )
  target = lengths * n[0][y] * head.margin(own[:, 0], **parameters.margin)
  is_own = y[:, None] == jnp.arange(len(w))[None, :]
  return jnp.where(is_own, target[:, None], z)


def winners(loss, inputs, y):
  """[batch, num_classes], the sub-centre that gets each class's gradient."""

  def each(w):
    return evaluate(loss, inputs._replace(W=w), y)[1]["per_sample"]

  slopes = jnp.abs(jax.jit(jax.jacrev(each))(inputs.W)).max(axis=2)
  moved = slopes.reshape(len(y), -1, loss.centers) > 0
  assert (moved.sum(axis=2) == 1).all()
  return moved.argmax(axis=2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("dtype", platforms.DTYPES)
def test_golden(case, dtype):
  fixture = GOLDEN["fixtures"][case["fixture"]]
  loss = golden_cases.build(case)
  with jax.enable_x64(dtype == np.float64):
    bias = case.get("extra_inputs", {}).get("bias", [0.0])
    arrays = (fixture["x"], fixture["W"], fixture.get("b", [0.0]), bias)
    inputs = golden_cases.Inputs(
      *(jnp.asarray(array, dtype) for array in arrays)
    )
    y = jnp.asarray(fixture["y"])
    (mean, values), slopes = jax.value_and_grad(
      functools.partial(evaluate, loss), has_aux=True
    )(inputs, y)
    if loss.centers > 1:
      values["winning_subcentre"] = winners(loss, inputs, y)
  want = dict(case["expected"])
  want.update(want.pop("state", {}))
  for name, slope in slopes._asdict().items():
    if f"d{name}" in want:
      check_gradient(slope, want.pop(f"d{name}"), dtype)
  check(mean, want.pop("loss"), dtype)
  for name, numbers in want.items():
    check(values[name], numbers, dtype)


def check(actual, want, dtype):
  want = np.array(want)
  double, single = dtype == np.float64, platforms.allowed(2e-5)
  largest = np.abs(want).max()
  assert actual.dtype in (dtype, np.int64, np.int32)
  np.testing.assert_allclose(
    np.reshape(actual, want.shape),
    want,
    rtol=1e-9 if double else single,
    # Of a single number nothing is forgiven. The file has 12 digits, also of
    # what is left of large numbers that cancel.
    atol=(want.size > 1)
    * (1e-12 * max(1, largest) if double else single * largest),
  )


def check_gradient(actual, want, dtype):
  share = 1e-8 if dtype == np.float64 else platforms.allowed(1e-4)
  np.testing.assert_allclose(
    actual, want, rtol=0, atol=share * np.abs(want).max()
  )


def test_nothing_of_the_file_is_left_out():
  """What is not here is tested with the losses of pairs and triplets."""
  others = {case["fixture"] for case in GOLDEN["cases"]} - set(FIXTURES)
  assert others == {"metric", "center"}
  with pytest.raises(AssertionError, match="no loss"):
    golden_cases.build(
      {"name": "mystery/hard", "grad_mode": "exact", "params": {}}
    )


@pytest.mark.parametrize(
  "case",
  [case for case in CASES if "extra_inputs" in case],
  ids=lambda case: case["name"],
)
def test_first_bias(case):
  p, count = case["params"], len(GOLDEN["fixtures"][case["fixture"]]["W"])
  if case["name"].startswith("uniface"):
    bias = binary.uniface_bias(count, p.get("r", 1.0))
  else:
    bias = binary.sphereface2_bias(
      count,
      scale=p["r"],
      margin=p["m"],
      kind=p["type"],
      alpha=p["alpha"],
      power=p["t"],
    )
  np.testing.assert_allclose(bias, case["extra_inputs"]["bias"][0], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("official", {}),
    ("clcarwin", {"base": 1500.0, "gamma": 0.1}),
    ("l_softmax", {"gamma": 2.5e-5, "power": 35.0, "minimum": 0.0}),
  ],
)
def test_annealing(name, options, dtype):
  with jax.enable_x64(dtype == np.float64):
    for step, want in GOLDEN["scalars"]["asoftmax_lambda"][name].items():
      actual = multiplicative.annealed_strength(dtype(step), **options)
      check(actual, want, dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_psi(dtype):
  with jax.enable_x64(dtype == np.float64):
    for row in GOLDEN["scalars"]["psi_table"]:
      cosine = np.cos(np.deg2rad(row["theta_deg"])).astype(dtype)
      actual = multiplicative.psi(cosine, margin=row["m"])
      np.testing.assert_allclose(
        actual, row["psi"], rtol=1e-9 if dtype == np.float64 else 2e-5
      )
      assert actual.dtype == dtype
