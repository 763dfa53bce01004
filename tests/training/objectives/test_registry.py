"""Every loss as it is trained: through the sharded head, and over a restart."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads, small_training

from facejax.head import centers
from facejax.losses import center
from facejax.runs import checkpoint
from facejax.runtime import mesh as mesh_lib
from facejax.training import state as train_state
from facejax.training.objectives import definition, registry

C = registry
LOSSES = {
  "softmax": C.Softmax(),
  "softmax without bias": C.Softmax(bias=False),
  "modified_softmax": C.ModifiedSoftmax(),
  "nsl": C.NSL(scale=16),
  "cosface": C.CosFace(scale=16),
  "arcface": C.ArcFace(scale=16),
  "arcface intra": C.ArcFace(scale=16, guard="none", intra_weight=2.0),
  "arcface detached": C.ArcFace(scale=16, gradient="detached"),
  "sub-center arcface": C.ArcFace(scale=16, centers=3),
  "combined": C.Combined(scale=16),
  "l_softmax": C.LSoftmax(),
  "a_softmax": C.ASoftmax(base=3.0),
  "sphereface_r v0": C.SphereFaceR(version="v0", scale=16),
  "sphereface_r v1": C.SphereFaceR(version="v1", scale=16),
  "sphereface_r v2": C.SphereFaceR(version="v2", scale=16, gradient="exact"),
  "sphereface2 C": C.SphereFace2(scale=16),
  "sphereface2 A": C.SphereFace2(kind="A", scale=16),
  "sphereface2 M": C.SphereFace2(kind="M", scale=16, margin=1.7),
  "adaface": C.AdaFace(scale=16, rate=1.0),
  "magface": C.MagFace(scale=16, lower_norm=1.0, upper_norm=9.0),
  "curricularface": C.CurricularFace(scale=16, decay=0.5),
  "elasticface": C.ElasticFace(scale=16),
  "elasticface cos, rank": C.ElasticFace(
    kind="cos", scale=16, margin=0.35, order="rank"
  ),
  "elasticface code": C.ElasticFace(scale=16, order="code"),
  "uniface": C.UniFace(scale=16),
  "uniface without clamp": C.UniFace(scale=16, clamp=False),
  "circle": C.Circle(scale=16),
}


def test_every_loss_is_here():
  known = {each for each in vars(registry).values() if isinstance(each, type)}
  over_classes = {
    each for each in known if issubclass(each, definition.OverClasses)
  }
  assert {type(loss) for loss in LOSSES.values()} == over_classes
  assert len({each.name for each in known}) == len(known)


def prepared(wanted, problem):
  """The problem with the parameters that the loss makes of its batch."""
  if wanted.prepare is None:
    return problem
  out = jax.jit(
    lambda x, c: wanted.prepare(
      *definition.init(wanted, tx=optax.identity(), dtype=jnp.float32)[:3:2],
      definition.Batch(x, c, jax.random.key(5)),
    )
  )(problem.embeddings, np.linspace(-0.4, 0.9, len(problem.labels)))
  return problem._replace(parameters=jax.device_get(out.parameters))


@pytest.mark.parametrize("name", LOSSES)
def test_sharded_in_blocks_equals_dense(name):
  wanted = LOSSES[name].definition(1183)
  bias = wanted.objective.bias
  arrays = heads.problem(1183, dim=12, centers=wanted.centers, seed=3)
  if bias:
    arrays = arrays._replace(embeddings=arrays.embeddings[:, :-1])
  arrays = prepared(wanted, arrays)
  actual = heads.evaluate(
    arrays, (8, 8), objective=wanted.objective, block_size=50
  )
  expected = heads.float64(arrays, objective=wanted.objective)
  heads.check(actual, expected, share=2e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_chance_is_the_loss_at_zero_cosines(name):
  wanted = LOSSES[name].definition(50)
  chance = definition.chance_loss(wanted, num_classes=50)
  assert math.isfinite(chance) and chance > 0
  known = {
    "softmax": math.log(50),
    "nsl": math.log(50),
    "cosface": math.log1p(49 * math.exp(16 * 0.35)),
    "arcface": math.log1p(49 * math.exp(16 * math.sin(0.5))),
  }
  if name in known:
    assert chance == pytest.approx(known[name], rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 2)])
def test_centres_move_as_in_the_paper(shape):
  rng = np.random.default_rng(1)
  start = rng.normal(size=(24, 5)).astype(np.float32)
  x = rng.normal(size=(16, 5)).astype(np.float32)
  labels = rng.integers(9, size=16).astype(np.int32)
  assert len(set(labels.tolist())) < 16
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  rows = jax.device_put(start, mesh_lib.sharding(mesh, mesh_lib.CLASSES))
  taken = jax.jit(lambda c: centers.take(c, labels, mesh=mesh))(rows)
  np.testing.assert_array_equal(taken, start[labels])
  moved = jax.jit(lambda c: centers.update(c, x, labels, rate=0.5, mesh=mesh))(
    rows
  )
  wanted = center.update_centers(start, x, labels, rate=0.5)
  np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-6)
  absent = sorted(set(range(24)) - set(labels.tolist()))
  np.testing.assert_array_equal(np.asarray(moved)[absent], start[absent])


def arguments(recipe):
  # Compiles in a third of the time; its embeddings all have length 1.
  more = ["--model.name", "sphereface4"]
  if recipe == "adaface.py":
    more = []
  if recipe == "cosface.py":
    more += ["--center.weight", 0.003]
  if recipe == "facenet.py":
    more += [
      "--data.identities-per-batch", 4, "--optim.ema", 0.5,
      "--optim.name", "adagrad", "--optim.schedule", "cosine",
    ]  # fmt: skip
  return [
    "--config", recipe, *small_training.SMALL[2:], "--steps", 4,
    "--optim.warmup", 0, "--model.name", "sphereface4", *more,
  ]  # fmt: skip


def advance(program, state, steps):
  for step in steps:
    generator = np.random.default_rng(step)
    batch = {
      "images": generator.integers(256, size=(16, 32, 32, 3), dtype=np.uint8),
      "labels": generator.integers(10, size=16, dtype=np.int32),
    }
    batch = mesh_lib.put_batch(batch, program.mesh)
    state, metrics = program.step(state, batch["images"], batch["labels"])
  return state, jax.device_get(metrics)


@pytest.mark.slow
@pytest.mark.parametrize(
  "recipe",
  ["sphereface.py", "adaface.py", "sphereface2.py", "cosface.py", "facenet.py"],
)
def test_what_a_loss_carries_survives_a_restart(recipe, tmp_path):
  program = small_training.build(arguments(recipe))

  def fresh():
    return train_state.create(program.init, program.like, seed=7)

  start = jax.device_get(fresh().loss)
  state, _ = advance(program, fresh(), range(2))
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    restored = checkpoints.restore(
      program.like, resizable=train_state.has_class_axis
    )
  again, metrics = advance(program, restored.state, range(2, 4))
  whole, wanted = advance(program, fresh(), range(4))
  small_training.assert_same_bits(jax.device_get(again), jax.device_get(whole))
  assert metrics == wanted
  if recipe == "facenet.py":
    assert whole.prototypes is None and "selected" in metrics
    return
  changed = jax.tree.map(
    lambda a, b: bool((a != b).any()), start, jax.device_get(whole.loss)
  )
  assert any(jax.tree.leaves(changed))
  if recipe == "sphereface.py":
    assert float(whole.loss.stats["step"]) == 4
    assert metrics["lambda"] == pytest.approx(1000 / (1 + 0.12 * 4))
  if recipe == "cosface.py":
    assert np.asarray(whole.loss.centers).any()
  if recipe == "adaface.py":
    assert 0 < float(whole.loss.stats["mean"]) < 20


def test_advice_comes_where_theory_is_left():
  def about(loss, num_classes=10_575, dim=512):
    return loss.advice(num_classes=num_classes, dim=dim)

  for loss in (C.CosFace(), C.ArcFace(), C.ASoftmax(), C.MagFace()):
    assert not about(loss)
  assert "below 11.5" in about(C.NSL(scale=8.0))[0]
  assert "above 0.293" in about(C.CosFace(), num_classes=8, dim=2)[0]
  assert "below 3" in about(C.ASoftmax(margin=2))[0]
  assert "below 22.6" in about(C.MagFace(weight=20.0))[0]
  assert not about(dataclasses.replace(C.CosFace(), scale=1.0), num_classes=1)
