"""Keeping to an old run's prototypes, against the gradient by hand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_training

from facejax.runs import classes, history
from facejax.runtime import mesh as mesh_lib
from facejax.training import state as train_state

# Of those of the run, some are known to the old one, in another order.
LABELS = np.arange(16) % 10
NAMES = [f"{k:06d}" for k in range(10)]
SMALL = [
  *small_training.SMALL,
  *("--model.name", "sphereface4", "--eval.pairs", "none"),
]
PLAIN = [
  *(*SMALL, "--optim.momentum", 0, "--optim.weight-decay", 0),
  *("--optim.clip-norm", 0, "--optim.schedule", "constant", "--steps", 1),
  *("--optim.learning-rate", 1, "--model.dtype", "float64"),
]


@pytest.fixture(scope="module")
def old(tmp_path_factory):
  """A run of six people; two of them are called otherwise by the new one."""
  workdir = tmp_path_factory.mktemp("old") / "run"
  code, output = small_training.call(
    [*SMALL, "--data.num-identities", 6, "--steps", 2, "--workdir", workdir]
  )
  assert code == 0, output
  names = classes.read(workdir)
  assert names is not None and len(names) == 6
  shuffled = ["gone", names[4], names[1], "left", names[0], names[3]]
  classes.write(workdir, shuffled)
  return workdir


def step(words, devices):
  """The program, and the trunk before and after a step, and its metrics."""
  program = small_training.build([*PLAIN, *words], devices)
  names = NAMES
  state = train_state.create(program.init, program.like, seed=7)
  before = jax.device_get(state.params)
  state, [metrics] = small_training.random_steps(
    program,
    state,
    LABELS,
    steps=1,
    frozen=[term.read(names) for term in program.terms],
  )
  return program, before, jax.device_get(state.params), metrics


@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_is_the_gradient_of_both(old, devices):
  mesh = mesh_lib.make_mesh(devices=1)
  stored = classes.read_prototypes(old, step=2, mesh=mesh)
  w = np.asarray(stored, float)[:6]
  there = classes.read(old)
  places = np.array(
    [there.index(NAMES[k]) if NAMES[k] in there else -1 for k in LABELS]
  )
  assert 0 < (places >= 0).sum() < 16
  with jax.enable_x64(True):
    program, before, alone, _ = step([], devices)
    asked = ["--compatible-with", old, "--compatible-weight", 3]
    *_, kept, metrics = step(asked, devices)
    images = np.random.default_rng(0).integers(
      256, size=(16, 32, 32, 3), dtype=np.uint8
    )

    def term(params):
      x, _ = program.backbone.apply(params, {}, images, train=True)
      unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (x, w)]
      own = jax.nn.one_hot(places, 6)
      logits = 32.0 * (unit[0] @ unit[1].T - 0.2 * own)
      each = -(jax.nn.log_softmax(logits) * own).sum(axis=1)
      return 3 * each.sum() / 16, each.sum() / (places >= 0).sum()

    gradient, mean = jax.jit(jax.grad(term, has_aux=True))(before)
    moved = jax.tree.map(lambda a, b: a - b, kept, alone)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, -b, rtol=1e-7, atol=1e-8),
      moved,
      gradient,
    )
    assert metrics["compatible_loss"] == pytest.approx(float(mean), rel=1e-7)


def test_a_run_keeps_to_them_and_goes_on(old, tmp_path):
  words = [*SMALL, "--compatible-with", old, "--workdir", tmp_path / "w"]
  words += ["--compatible-weight", 10, "--optim.learning-rate", 0.1]
  for steps in (4, 40):
    code, output = small_training.call([*words, "--steps", steps])
    assert code == 0 and "4 of 10 classes are there" in output, output
  assert "resumed at step 4" in output
  lines = [x for x in history.read(tmp_path / "w") if x["kind"] == "train"]
  assert lines[-1]["compatible_cosine"] > lines[0]["compatible_cosine"]


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--model.embedding-dim", 8], "makes embeddings of 16, .* of one size"),
    (["--config", "adaface.py"], "loss adaface asks for more than the cosines"),
    (
      ["--config", "facenet.py", "--batch-size", 128],
      "loss triplet has no prototypes of its own",
    ),
    (["--compatible-with", "nowhere"], "compatible_with: 'nowhere' is not"),
  ],
)
def test_what_it_cannot_be(words, message, old, tmp_path):
  code, output = small_training.call(
    [*SMALL, "--compatible-with", old, *words, "--workdir", tmp_path / "w"]
  )
  assert code == 2 and re.search(message, " ".join(output.split())), output
  assert not (tmp_path / "w").exists()
