"""A head with an optimizer and a learning rate of its own."""

import json

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.training import config as config_lib
from facejax.training import state as train_state

BOTH = [*small_training.SMALL, "--steps", 3, "--optim.schedule", "constant"]
OTHER = ("--optim.head.name", "adamw", "--optim.head.learning-rate", 0.003)


def test_of_head_takes_its_own_values_and_the_trunks_otherwise():
  own = config_lib.HeadOptimConfig(weight_decay=0.0, schedule="constant")
  optim = config_lib.OptimConfig(learning_rate=0.3, weight_decay=0.1, head=own)
  found = optim.of_head()
  assert (found.learning_rate, found.weight_decay) == (0.3, 0.0)
  assert found.schedule == "constant" and found.head == type(own)()
  plain = config_lib.OptimConfig(learning_rate=0.3)
  assert plain.of_head() == plain


def moves(options, devices=1):
  """How far the first step moves the trunk and the prototypes."""
  arguments = [*BOTH, *options, "--steps", 1]
  program = small_training.build(arguments, devices)
  state = train_state.create(program.init, program.like, seed=7)
  before = jax.device_get((state.params, state.prototypes))
  state, (metrics,) = small_training.random_steps(
    program, state, np.arange(16) % 10, steps=1
  )
  after = jax.device_get((state.params, state.prototypes))
  trunk, head = jax.tree.map(np.subtract, after, before)
  return trunk, head[:10], metrics


@pytest.mark.parametrize("devices", [1, 8])
def test_each_goes_by_its_own(devices):
  """The trunk moves as where both have its, the prototypes as by theirs."""
  trunk, head, metrics = moves(OTHER, devices)
  as_trunk = moves((), devices)
  as_head = moves(
    ("--optim.name", "adamw", "--optim.learning-rate", 0.003), devices
  )
  same = jax.tree.map(
    lambda a, b: np.allclose(a, b, rtol=1e-4, atol=1e-7), trunk, as_trunk[0]
  )
  assert jax.tree.all(same)
  np.testing.assert_allclose(head, as_head[1], rtol=1e-4, atol=1e-7)
  assert not np.allclose(head, as_trunk[1], rtol=0.1)
  assert metrics["learning_rate"] == pytest.approx(0.02)
  assert metrics["head_learning_rate"] == pytest.approx(0.003)
  assert "head_learning_rate" not in as_trunk[2]


def test_a_run_logs_both_and_goes_on(tmp_path):
  arguments = [*BOTH, *OTHER, "--optim.head.schedule", "linear"]
  code, output = small_training.call([*arguments, "--workdir", tmp_path / "w"])
  assert code == 0, output
  assert "lr 0.02" in output and "head lr 0.003" in output
  lines = (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()
  rates = [
    line["head_learning_rate"]
    for line in map(json.loads, lines)
    if "head_learning_rate" in line
  ]
  np.testing.assert_allclose(rates, [0.003, 0.002, 0.001], rtol=1e-5)
  more = [*arguments, "--steps", 4, "--workdir", tmp_path / "w"]
  code, output = small_training.call(more)
  assert code == 0 and "resumed at step 3" in output, output
  code, output = small_training.call([*more, "--optim.head.name", "lion"])
  assert code == 2 and "optim.head.name" in output


def test_what_the_head_cannot_have_is_named(tmp_path):
  code, output = small_training.call(
    [*BOTH, "--optim.head.schedule", "step", "--workdir", tmp_path / "w"]
  )
  assert code == 2 and "optim.milestones" in output
  code, output = small_training.call(
    [*BOTH, "--optim.head.learning-rate", "-1", "--workdir", tmp_path / "w"]
  )
  assert code == 2 and "optim.head.learning_rate=-1.0 is out of" in output
