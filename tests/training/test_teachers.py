"""A run that learns from another's embeddings, against the gradient by hand."""

import re

import jax
import numpy as np
import optax
import pytest
from helpers import small_training, tiny_run

from facejax.losses import distillation
from facejax.runs import history, net
from facejax.training import state as train_state

LABELS = np.arange(16) % 10
# A step is the gradient: no momentum, no decay, no clipping.
PLAIN = [
  *small_training.SMALL,
  *("--model.name", "sphereface4", "--data.crop", 0.9, "--steps", 1),
  *("--optim.momentum", 0, "--optim.weight-decay", 0, "--optim.clip-norm", 0),
  *("--optim.schedule", "constant", "--optim.learning-rate", 1),
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
  return tiny_run.write_run(tmp_path_factory.mktemp("teachers") / "run")


def step(words, devices=1, teacher=None):
  """The trunk before and after a step, and its metrics."""
  words = [*PLAIN, "--model.dtype", "float64", *words]
  words += ["--distill", teacher] if teacher else []
  program = small_training.build(words, devices)
  frozen = []
  if teacher:
    frozen = [program.terms[0].read([])]
  state = train_state.create(program.init, program.like, seed=7)
  before = jax.device_get(state.params)
  state, [metrics] = small_training.random_steps(
    program, state, LABELS, steps=1, frozen=frozen
  )
  return program, before, jax.device_get(state.params), metrics


@pytest.mark.parametrize(
  ("weights", "devices", "parts"),
  [((1.0, 0.0), 1, 1), ((0.5, 3.0), 2, 2)],
)
def test_a_step_is_the_gradient_of_both(teacher, weights, devices, parts):
  words = ["--accumulate", parts]
  cosine, relations = weights
  asked = [
    "--distillation.cosine",
    cosine,
    "--distillation.relations",
    relations,
  ]
  with jax.enable_x64(True):
    program, before, alone, _ = step(words, devices)
    *_, taught, metrics = step([*words, *asked], devices, teacher)
    images = np.random.default_rng(0).integers(
      256, size=(16, 32, 32, 3), dtype=np.uint8
    )
    told = net.read(teacher)
    wanted = told.compiled(told.params, told.stats, images)

    def terms(params):
      found, _ = program.backbone.apply(params, {}, images, train=True)
      far = distillation.cosine(found, wanted).mean()
      apart = distillation.relations(found, wanted).mean()
      return cosine * far + relations * apart, (1 - far, apart)

    found = jax.jit(jax.grad(terms, has_aux=True))(before)
    gradient, (near, apart) = found
    moved = jax.tree.map(lambda a, b: a - b, taught, alone)
    scale = float(optax.tree.norm(gradient))
    assert scale > 1e-3
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, -b, rtol=0, atol=1e-5 * scale),
      moved,
      gradient,
    )
    if cosine:
      assert metrics["teacher_cosine"] == pytest.approx(float(near), abs=1e-5)
    if relations:
      assert metrics["teacher_relations"] == pytest.approx(
        float(apart), rel=1e-4
      )


def test_a_run_learns_and_goes_on(teacher, tmp_path):
  words = [
    *small_training.SMALL,
    *("--model.name", "sphereface4", "--data.crop", 0.9, "--distill", teacher),
    *("--distillation.cosine", 10, "--workdir", tmp_path / "w"),
    *("--stages", "0.5 loss.margin=0.1", "--eval.pairs", "none"),
  ]
  code, output = small_training.call([*words, "--steps", 10])
  assert code == 0 and output.count("learns from") == 1, output
  lines = [x for x in history.read(tmp_path / "w") if x["kind"] == "train"]
  assert lines[-1]["teacher_cosine"] > lines[0]["teacher_cosine"] + 0.05


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--data.crop", 0.8], "sees images of .* crop 0.9, and this run"),
    (
      ["--model.embedding-dim", 8],
      "makes embeddings of 16, .* distillation.cosine=0",
    ),
    (["--distillation.cosine", 0], "nothing would be learnt"),
    (["--distill", "nowhere"], "distill: 'nowhere' .* name another"),
  ],
)
def test_what_cannot_teach(words, message, teacher, tmp_path):
  code, output = small_training.call(
    [*PLAIN, "--distill", teacher, *words, "--workdir", tmp_path / "w"]
  )
  assert code == 2 and re.search(message, " ".join(output.split())), output
  assert not (tmp_path / "w").exists()
