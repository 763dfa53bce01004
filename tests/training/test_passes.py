"""A batch that goes through the net in parts is trained on as a whole."""

import functools

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.runtime import mesh as mesh_lib
from facejax.training import state as train_state

# Without BatchNorm, and with it.
NARROW = ["--model.name", "sphereface4"]
GROUPS = ["--model.name", "iresnet10_slim", "--model.bn-group", 4]
TRIPLETS = [
  *NARROW, "--data.identities-per-batch", 4, "--data.images-of-identity", 4,
  "--data.random-negatives", 0,
]  # fmt: skip


@functools.cache
def moved(options, parts, devices, recipe="cosface.py"):
  """The loss of two steps, and the state after them."""
  arguments = [
    *small_training.SMALL, *options, "--config", recipe, "--steps", 2,
    "--data.image-size", 16, 16,
    "--model.dtype", "float64", "--accumulate", parts,
  ]  # fmt: skip
  with jax.enable_x64(True):
    program = small_training.build(arguments, devices)
    state = train_state.create(program.init, program.like, seed=7)
    labels = np.repeat(np.arange(4), 4)
    state, metrics = small_training.random_steps(
      program, state, labels, steps=2
    )
    losses = [float(step["loss"]) for step in metrics]
    trunk, prototypes = jax.device_get(
      ((state.params, state.stats), state.prototypes)
    )
    # Rows that fill up the devices' shares are no classes.
    return losses, trunk, None if prototypes is None else prototypes[:10]


@pytest.mark.parametrize(
  ("options", "recipe", "parts", "devices"),
  [
    (tuple(NARROW), "cosface.py", 4, 1),
    (tuple(NARROW), "cosface.py", 2, 4),
    (tuple(GROUPS), "cosface.py", 4, 1),
    (tuple(GROUPS), "cosface.py", 2, 4),
    (tuple(TRIPLETS), "facenet.py", 2, 4),
  ],
)
def test_parts_make_the_same_step(options, recipe, parts, devices):
  whole, parted = (
    moved(options, *how, recipe=recipe) for how in ((1, 1), (parts, devices))
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9),
    parted,
    whole,
  )
  assert whole[0][0] != whole[0][1]


def test_one_part_alone_has_its_activations_in_memory():
  def temporaries(parts):
    program = small_training.build(
      [*small_training.SMALL, "--accumulate", parts, "--steps", 1], 1
    )
    batch = {
      "images": np.zeros((16, 32, 32, 3), np.uint8),
      "labels": np.zeros(16, np.int32),
    }
    placed = mesh_lib.put_batch(batch, program.mesh)
    step = program.step.lower(program.like, placed["images"], placed["labels"])
    return step.compile().memory_analysis().temp_size_in_bytes

  assert temporaries(4) < 0.6 * temporaries(1)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--accumulate", 3], "accumulate=3 must divide batch_size=16"),
    (["--accumulate", 8, "--mesh.devices", 4], "batch_size / accumulate"),
    (["--model.bn-group", 3], "bn_group=3 must divide batch_size, 16"),
    (
      ["--accumulate", 2, "--model.bn-group", 16],
      "bn_group=16 must divide batch_size / accumulate, 8, into equal groups;"
      " those of 2, 4, 8 images do",
    ),
    (["--accumulate", 16, "--mesh.devices", 1], "accumulate=16 leaves 1 image"),
    (["--model.bn-group", 1], "model.bn_group=1: net"),
    (["--model.bn-frozen"], "model.bn_frozen without init_from"),
    (
      ["--model.bn-frozen", "--model.bn-group", 4],
      "model.bn_frozen and model.bn_group=4",
    ),
  ],
)
def test_parts_that_do_not_fit_are_refused(options, message, tmp_path):
  code, output = small_training.call(
    [
      *small_training.SMALL, "--workdir", tmp_path / "run", "--steps", 1,
      *options,
    ]
  )  # fmt: skip
  assert code == 2 and message in " ".join(output.split()), output
