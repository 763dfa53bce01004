"""Schedule-free training against its formula, with groups, and in a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_training

from facejax.models import functional
from facejax.runs import checkpoint, net
from facejax.training import groups, optim_config, optimizers, schedule_free
from facejax.training import state as train_state

NET = functional.build("sphereface4", embedding_dim=8, image_size=(32, 32))
OPTIONS = (
  *("--optim.name", "schedule_free", "--optim.head.name", "sgd"),
  *("--optim.schedule", "constant", "--model.name", "sphereface4"),
)


def test_it_is_its_formula():
  rng = np.random.default_rng(0)
  start, gradients = rng.normal(size=5), rng.normal(size=(4, 5))
  rates = [0.0, 0.1, 0.3, 0.3, 0.3]
  x = y = z = start
  v, total = np.zeros(5), 0.0
  for t, g in enumerate(gradients):
    v = 0.9 * v + 0.1 * g**2
    step = g / (np.sqrt(v / (1 - 0.9 ** (t + 1))) + 1e-6) + 0.01 * y
    z = z - rates[t] * step
    # The averaging looks at the rate to come, as its authors' code does.
    weight = max(rates[: t + 2]) ** 2
    total += weight
    x = (1 - weight / total) * x + weight / total * z
    y = 0.8 * x + 0.2 * z
  with jax.enable_x64(True):

    def rate(step):
      return jnp.asarray(rates)[step]

    tx = schedule_free.interpolated(
      schedule_free.steps(rate, beta2=0.9, epsilon=1e-6, weight_decay=0.01),
      rate,
      beta1=0.8,
    )
    params = jnp.asarray(start)
    state = tx.init(params)
    for g in gradients:
      updates, state = tx.update(jnp.asarray(g), state, params)
      params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, y, rtol=1e-12)
    np.testing.assert_allclose(schedule_free.mean(state, params), x, rtol=1e-12)


def test_what_is_frozen_stays_and_depth_slows():
  optimizer = optim_config.OptimConfig(
    name="schedule_free",
    schedule="constant",
    freeze=r"blocks\.3\.",
    layer_decay=0.5,
    weight_decay=0.0,
    clip_norm=0.0,
  )
  tx = optimizers.of_trunk(optimizer, optax.constant_schedule(0.01), NET)
  before, _ = NET.init(jax.random.key(0))
  params, state = before, tx.init(before)
  for _ in range(3):
    gradient = jax.tree.map(jnp.ones_like, before)
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  average = optimizers.average(optimizer)
  assert average is not None
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).mean()),
    average(before, params, state),
    before,
  )
  by_name = dict(zip(groups.names(moved), jax.tree.leaves(moved), strict=True))
  # Steps of AdamW have the learning rate's length: 0.01 x (1 + 2 + 3) / 3.
  assert by_name["linear.kernel"] == pytest.approx(0.02, rel=1e-3)
  assert by_name["blocks.2.conv.kernel"] == pytest.approx(0.02 / 4, rel=1e-3)
  assert by_name["blocks.0.conv.kernel"] == pytest.approx(0.02 / 16, rel=1e-3)
  # To the bit, however long the run.
  assert by_name["blocks.3.conv.kernel"] == 0


def test_a_run_verifies_the_mean_and_goes_on(tmp_path):
  workdir = tmp_path / "w"
  words = [*small_training.SMALL, *OPTIONS, "--workdir", workdir]
  code, output = small_training.call([*words, "--steps", 2])
  assert code == 0, output
  code, output = small_training.call([*words, "--steps", 4])
  assert code == 0 and "resumed at step 2" in output, output
  program = small_training.build([*words, "--steps", 4], 1)
  with checkpoint.Checkpoints(workdir / "checkpoints") as checkpoints:
    found = checkpoints.restore(
      program.like, step=4, resizable=train_state.has_class_axis
    )
  state = found.state
  wanted = schedule_free.mean(state.trunk_optimizer, state.params)
  found = net.read(workdir)

  def apart(a, b):
    return max(
      float(np.abs(x - y).max())
      for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )

  assert apart(found.params, wanted) < 1e-6 < 1e-4 < apart(wanted, state.params)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--optim.schedule", "cosine"], "take optim.schedule=constant"),
    (["--optim.ema", 0.9], "it keeps a mean of the weights itself"),
    (["--optim.beta1", 0], "must be above 0"),
    (["--optim.head.name", "None"], "is for the trunk alone"),
    (["--stages", "0.5 optim.name=adamw"], "is for a whole run"),
  ],
)
def test_what_it_cannot_be(words, message, tmp_path):
  arguments = [*small_training.SMALL, *OPTIONS, "--workdir", tmp_path / "w"]
  code, output = small_training.call([*arguments, *words])
  assert code == 2 and message in " ".join(output.split()), output
  assert not (tmp_path / "w").exists()
