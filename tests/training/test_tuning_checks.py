"""Runs that train adapters beside another run's net."""

import functools
import shutil

import jax
import numpy as np
import pytest
from helpers import small_training, tiny_run

from facejax import convert
from facejax.interchange import formats
from facejax.models import lora
from facejax.runs import card, embedder
from facejax.runs import net as net_lib
from facejax.training import groups, recipe
from facejax.training import state as train_state

ALPHA = 6.0
ADAPTED = [
  *small_training.SMALL,
  *("--model.lora", 4, "--model.lora-alpha", ALPHA, "--mesh.devices", 1),
]
RUN = [
  *ADAPTED,
  *("--steps", 4, "--checkpoint.every", 2, "--model.bn-frozen"),
  *("--optim.ema", 0.5, "--optim.freeze", r"stem|blocks\.0\."),
  *("--optim.layer-decay", 0.7, "--optim.decay", "kernels"),
]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
  """The run that is gone on from, arguments, and the run with adapters."""
  folder = tmp_path_factory.mktemp("tuned")
  first = tiny_run.write_run(folder / "first")
  arguments = [*RUN, "--init-from", first]
  code, output = small_training.call(
    [*arguments, "--workdir", folder / "second"]
  )
  assert code == 0, output
  told = " ".join(output.split())
  assert "of them trained: adapters of rank 4)" in told
  return arguments, folder / "second"


@pytest.fixture(scope="module")
def state(tuned):
  arguments, run = tuned
  return small_training.final_state(arguments, run)[1]


def test_adapters_alone_are_trained(tuned, state):
  arguments, _ = tuned
  _, _, stats, average = tiny_run.weights()
  # Kernels, norms, biases and slopes, and here the statistics: to the bit.
  small_training.assert_same_bits(lora.without(state.params), average)
  small_training.assert_same_bits(state.stats, stats)
  program = small_training.build(arguments)
  start = train_state.create(program.init, program.like, seed=7).params
  names = groups.names(state.params)
  for name, before, after in zip(
    names, jax.tree.leaves(start), jax.tree.leaves(state.params), strict=True
  ):
    if name.endswith(lora.ADAPTERS):
      frozen = name.startswith(("stem", "blocks.0."))
      assert np.array_equal(before, after) == frozen, name


def test_what_is_not_trained_has_no_optimizer_state(state):
  held = sum(
    leaf.size for leaf in jax.tree.leaves(state.trunk_optimizer) if leaf.ndim
  )
  assert 0 < held < lora.count(state.params)


def test_what_is_read_is_merged(tuned, state):
  _, run = tuned
  assert card.read(run).lora == 4
  merged = lora.merged(state.average, alpha=ALPHA)
  net = net_lib.read(run)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
    *(net.params, merged),
  )
  program = small_training.build(tuned[0])
  images = np.random.default_rng(0).integers(256, size=(4, 32, 32, 3))
  images = images.astype(np.uint8)
  apart = program.embed(state.verified, state.stats, images)
  apart /= np.linalg.norm(apart, axis=1, keepdims=True)
  found = embedder.load(run, devices=1).embed(images, flip=True)
  np.testing.assert_allclose(found, apart, atol=1e-5)


def test_it_is_handed_on_merged(tuned, tmp_path):
  pytest.importorskip("safetensors", reason="needs the onnx extra")
  net, path = net_lib.read(tuned[1]), tmp_path / "net.safetensors"
  formats.FORMATS["safetensors"].write(net, path)
  assert convert.main([str(path), "--workdir", str(tmp_path / "run")]) == 0
  again = net_lib.read(tmp_path / "run")
  assert again.card.lora == 0
  small_training.assert_same_bits(again.params, net.params)


def test_a_run_with_adapters_goes_on_to_the_same_bits(tuned, state, tmp_path):
  arguments, run = tuned
  shutil.copytree(run, tmp_path / "again")
  shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
  shutil.rmtree(tmp_path / "again" / "report")
  code, output = small_training.call(
    [*arguments, "--workdir", tmp_path / "again"]
  )
  assert code == 0 and "resumed at step 2" in output, output
  _, resumed = small_training.final_state(arguments, tmp_path / "again")
  small_training.assert_same_bits(resumed, state)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--model.lora", "4"], "model.lora=4 without init_from"),
    (["--init-prototypes"], "init_prototypes without init_from"),
    (
      [
        *("--config", "supcon.py", "--data.identities-per-batch", "4"),
        *("--init-from", "x", "--init-prototypes"),
      ],
      "supcon compares the images of a batch and has no",
    ),
  ],
)
def test_a_command_that_cannot_be_meant(options, message):
  small = [*map(str, small_training.SMALL), "--steps", "2"]
  with pytest.raises(ValueError, match=message):
    recipe.parse([*small, *options]).to_config()


def test_adapters_that_are_all_frozen_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r"all weights match.*lora_a"):
    small_training.build(
      [*ADAPTED, "--steps", 2, "--init-from", tmp_path, "--optim.freeze", ".*"]
    )
