"""A memory of past embeddings: what it holds, and what it does in a step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_training

from facejax.losses import anchors, pairwise
from facejax.runs import checkpoint
from facejax.runtime import mesh as mesh_lib
from facejax.training import recipe
from facejax.training import state as train_state
from facejax.training.objectives import definition, memory, registry
from facejax.training.objectives import step as loss_step

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(12, 2)).astype(np.float32)
PEOPLE = ["--data.identities-per-batch", 4, "--data.images-of-identity", 4]


class State(NamedTuple):
  """What a step of a loss within batches looks at."""

  step: jax.Array
  loss: definition.LossState


def test_it_is_a_ring_of_the_newest():
  ring = memory.empty(5, 2, jnp.float32)
  assert not memory.past(ring, used=True).held.any()
  for start in (0, 3, 6, 9):
    rows = slice(start, start + 3)
    ring = memory.remember(ring, ROWS[rows], jnp.arange(12)[rows])
    found = memory.past(ring, used=True)
    names = np.asarray(found.labels)[np.asarray(found.held)]
    newest = range(max(0, start + 3 - 5), start + 3)
    assert sorted(names.tolist()) == list(newest)
    np.testing.assert_array_equal(
      np.asarray(found.embeddings)[np.asarray(found.held)], ROWS[names]
    )
  assert not memory.past(ring, used=False).held.any()


def steps(devices):
  """Loss, gradient, batch and memory of three steps."""
  mesh = mesh_lib.make_mesh(devices=devices)
  loss = registry.Contrastive().function(mesh=mesh)
  step = jax.jit(loss_step.within_batch(loss, seed=0, memory_from=2))
  carried = definition.init(
    None, tx=optax.identity(), dtype=jnp.float32, memory=(32, 6)
  )
  out = []
  for number in range(3):
    x = np.random.default_rng(number).normal(size=(16, 6)).astype(np.float32)
    labels = np.repeat(np.arange(number, number + 4, dtype=np.int32), 4)
    state = State(jnp.int32(number), carried)
    placed = mesh_lib.put_batch({"x": x, "labels": labels}, mesh)
    done = step(state, placed["x"], placed["labels"])
    carried = jax.device_get(done.loss)
    loss, slope = jax.device_get((done.metrics["loss"], done.d_embeddings))
    out.append((loss, slope, x, labels, carried.memory))
  return out


def test_steps_compare_with_the_batches_before():
  """From the step that it starts at; on one device as on eight."""
  found = steps(1)
  for number, (value, slope, x, labels, held) in enumerate(found):
    past = None
    if number == 2:
      past = anchors.Past(
        np.concatenate([found[0][2], found[1][2]]),
        jnp.asarray(np.concatenate([found[0][3], found[1][3]])),
        jnp.ones(32, bool),
      )

    def mean(x, labels=labels, past=past):
      return anchors.mean(pairwise.contrastive(x, labels, past=past))

    expected, wanted = jax.value_and_grad(mean)(jnp.asarray(x))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)
    assert held.filled == min(32, 16 * (number + 1))
    rows = slice(16 * (number % 2), 16 * (number % 2) + 16)
    np.testing.assert_array_equal(held.embeddings[rows], x)
    np.testing.assert_array_equal(held.labels[rows], labels)
  plain = anchors.mean(pairwise.contrastive(*found[2][2:4]))
  assert abs(found[2][0] - float(plain)) > 1e-3
  for one, other in zip(found, steps(8), strict=True):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    np.testing.assert_allclose(one[1], other[1], rtol=1e-4, atol=1e-6)


def test_a_checkpoint_keeps_it(tmp_path):
  carried = definition.init(
    None, tx=optax.identity(), dtype=jnp.float32, memory=(5, 2)
  )
  held = memory.remember(carried.memory, ROWS[:3], jnp.arange(3))
  state = {"loss": carried._replace(memory=held)}
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state)
  like = jax.eval_shape(lambda: state)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    found = checkpoints.restore(like, resizable=train_state.has_class_axis)
  assert found is not None
  small_training.assert_same_bits(found.state["loss"].memory, held)


# Each recipe trains: a net of one layer, some steps of generated faces.
RECIPES = {
  "nt_xent.py": PEOPLE,
  "multi_similarity.py": [
    *PEOPLE,
    "--memory.size",
    32,
    "--memory.start",
    2,
    "--optim.learning-rate",
    0.005,
  ],
  "proxy_nca.py": [],
  "proxy_anchor.py": [],
  "soft_triple.py": [],
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_metric_learning_train(name):
  words = ["--config", name, *small_training.SMALL[2:], *RECIPES[name]]
  net = ["--model.name", "helpers.own_nets:Linear"]
  losses, *_ = small_training.trained([*words, *net, "--steps", 50])
  assert np.isfinite(losses).all()
  # From step 2 on, when the memory has its say.
  assert np.mean(losses[-16:]) < 0.95 * np.mean(losses[2:18])


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--config cosface.py --memory.size 512", "use one of contrastive, supcon"),
    ("--config facenet.py --memory.size 9999", "triplet takes no partners"),
    ("--config supcon.py --memory.size 100", "must hold a batch, batch_size=128"),
    ("--config proxy_anchor.py --head.implementation fused", "use dense"),
    ("--config soft_triple.py --head.implementation chunked", "use dense"),
    ("--config proxy_nca.py --head.implementation sparse", "is not: use fused"),
  ],
)  # fmt: skip
def test_what_it_does_not_go_with_is_refused(flags, message):
  with pytest.raises(ValueError, match=message):
    recipe.parse(flags.split())
