"""Optimizers of whole matrices against their formulas, and in a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_training

from facejax.training import groups, matrix_optim
from facejax.training import state as train_state

NAMES = ["lars", "lamb", "muon"]


def weights():
  rng = np.random.default_rng(0)
  return {
    "conv": {"kernel": rng.normal(size=(3, 3, 2, 5))},
    "bn": {"scale": rng.normal(size=5), "bias": rng.normal(size=5)},
    "linear": {"kernel": rng.normal(size=(6, 4)), "bias": np.zeros(4)},
  }


def gradients(count=3):
  rng = np.random.default_rng(1)
  return [
    jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), weights())
    for _ in range(count)
  ]


def run(tx):
  """Weights after each step, in double precision."""
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, weights())
    state, found = tx.init(params), []
    for gradient in gradients():
      updates, state = tx.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
      found.append(jax.device_get(params))
  return found


def by_leaf(step):
  """Weights after each step of a function of one array, and what it holds."""
  params, found = weights(), []
  names = groups.names(params)
  leaves, tree = jax.tree.flatten(params)
  held = [{} for _ in leaves]
  for t, gradient in enumerate(gradients(), start=1):
    leaves = [
      step(t, name, w, g, h)
      for name, w, g, h in zip(
        names, leaves, jax.tree.leaves(gradient), held, strict=True
      )
    ]
    found.append(jax.tree.unflatten(tree, leaves))
  return found


def same(found, wanted, **tolerance):
  for a, b in zip(found, wanted, strict=True):
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b
    )


@pytest.mark.parametrize("decayed", [None, groups.kernels])
def test_lars_is_its_formula(decayed):
  def step(t, name, w, g, held):
    kernel = name.endswith("kernel")
    if kernel or decayed is None:
      g = g + 0.1 * w
    if kernel:
      g = g * 0.01 * np.linalg.norm(w) / np.linalg.norm(g)
    held["v"] = 0.8 * held.get("v", 0) + 0.3 * g
    return w - held["v"]

  tx = matrix_optim.lars(
    optax.constant_schedule(0.3),
    momentum=0.8,
    trust=0.01,
    weight_decay=0.1,
    decayed=decayed,
  )
  same(run(tx), by_leaf(step), rtol=1e-10, atol=1e-12)


def adam(t, g, held):
  held["m"] = 0.8 * held.get("m", 0) + 0.2 * g
  held["v"] = 0.9 * held.get("v", 0) + 0.1 * g**2
  return held["m"] / (1 - 0.8**t), held["v"] / (1 - 0.9**t)


@pytest.mark.parametrize("decayed", [None, groups.kernels])
def test_lamb_is_its_formula(decayed):
  def step(t, name, w, g, held):
    m, v = adam(t, g, held)
    u = m / (np.sqrt(v) + 1e-6)
    if name.endswith("kernel") or decayed is None:
      u = u + 0.1 * w
    norms = np.linalg.norm(w), np.linalg.norm(u)
    return w - 0.3 * u * (norms[0] / norms[1] if all(norms) else 1)

  tx = matrix_optim.lamb(
    optax.constant_schedule(0.3),
    beta1=0.8,
    beta2=0.9,
    weight_decay=0.1,
    decayed=decayed,
  )
  same(run(tx), by_leaf(step), rtol=1e-9, atol=1e-9)


def newton_schulz(matrix):
  """Five steps, with Jordan's coefficients."""
  tall = matrix.shape[0] > matrix.shape[1]
  x = matrix.T if tall else matrix
  x = x / (np.linalg.norm(x) + 1e-8)
  for _ in range(5):
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  return x.T if tall else x


@pytest.mark.parametrize("decayed", [None, groups.kernels])
def test_muon_is_its_formula(decayed):
  def step(t, name, w, g, held):
    if not name.endswith("kernel"):
      _, v = adam(t, g, held)
      m = 0.8 * held["m"] / (1 - 0.8 ** (t + 1)) + 0.2 * g / (1 - 0.8**t)
      decay = 0.1 if decayed is None else 0
      return w - 0.3 * (m / (np.sqrt(v) + 1e-8) + decay * w)
    held["m"] = 0.7 * held.get("m", 0) + 0.3 * g
    ahead = 0.7 * held["m"] / (1 - 0.7 ** (t + 1)) + 0.3 * g / (1 - 0.7**t)
    matrix = ahead.reshape(-1, g.shape[-1])
    size = 0.2 * np.sqrt(max(matrix.shape))
    move = size * newton_schulz(matrix).reshape(g.shape)
    return w - 0.3 * (move + 0.1 * w)

  tx = matrix_optim.muon(
    optax.constant_schedule(0.3),
    momentum=0.7,
    beta1=0.8,
    beta2=0.9,
    weight_decay=0.1,
    decayed=decayed,
  )
  same(run(tx), by_leaf(step), rtol=1e-6, atol=1e-7)


def test_muon_moves_are_nearly_orthogonal():
  tx = matrix_optim.muon(optax.constant_schedule(1.0))
  moved = run(tx)[0]["linear"]["kernel"] - weights()["linear"]["kernel"]
  singular = np.linalg.svd(moved, compute_uv=False) / (0.2 * np.sqrt(6))
  assert singular.min() > 0.6 and singular.max() < 1.3


@pytest.mark.parametrize("name", NAMES)
def test_clipping_goes_first(name):
  tx = getattr(matrix_optim, name)(optax.constant_schedule(0.1), clip_norm=1e-3)
  plain = getattr(matrix_optim, name)(optax.constant_schedule(0.1))
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, weights())
    gradient = jax.tree.map(jnp.asarray, gradients(1)[0])
    norm = optax.tree.norm(gradient)
    small = jax.tree.map(lambda leaf: leaf * 1e-3 / norm, gradient)
    found, _ = tx.update(gradient, tx.init(params), params)
    wanted, _ = plain.update(small, plain.init(params), params)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), found, wanted
    )


def losses(options, devices):
  """The losses of two steps."""
  arguments = [*small_training.SMALL, *options, "--steps", 2]
  arguments += ["--optim.head.name", "sgd", "--optim.schedule", "constant"]
  program = small_training.build(arguments, devices)
  state = train_state.create(program.init, program.like, seed=7)
  _, metrics = small_training.random_steps(
    program, state, np.arange(16) % 10, steps=2
  )
  return [float(step["loss"]) for step in metrics]


@pytest.mark.parametrize("name", NAMES)
def test_devices_change_nothing(name):
  options = ("--optim.name", name, "--optim.decay", "kernels")
  options += ("--optim.freeze", "stem", "--optim.layer-decay", 0.9)
  one, eight = losses(options, 1), losses(options, 8)
  np.testing.assert_allclose(one, eight, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_trains_with_it_and_goes_on(name, tmp_path):
  arguments = [*small_training.SMALL, "--model.name", "sphereface4"]
  arguments += ["--optim.name", name, "--optim.head.name", "sgd"]
  arguments += ["--eval.pairs", "none", "--workdir", tmp_path / "w"]
  code, output = small_training.call([*arguments, "--steps", 2])
  assert code == 0, output
  code, output = small_training.call([*arguments, "--steps", 3])
  assert code == 0 and "resumed at step 2" in output, output


@pytest.mark.parametrize("name", NAMES)
def test_the_head_takes_another(name, tmp_path):
  code, output = small_training.call(
    [
      *(*small_training.SMALL, "--steps", 2, "--optim.name", name),
      *("--workdir", tmp_path / "w"),
    ]
  )
  assert code == 2
  text = " ".join(output.split())
  assert f"optim.name={name} is for the trunk alone" in text
  assert "optim.head.name sgd, adagrad, adamw, lion" in text
  assert not (tmp_path / "w").exists()
