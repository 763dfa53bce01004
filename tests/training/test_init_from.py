"""The beginning of a run that goes on from another one's net and classes."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import small_training, tiny_run

from facejax.models import functional, lora
from facejax.runs import card as card_lib
from facejax.runs import classes, folder, imported
from facejax.training import init_from, recipe

OLD = ["ada", "bob", "cid", "dan"]
NEW = ["cid", "eve", "ada", "bob", "fay"]
KEPT = [2, -1, 0, 1, -1]
DIM = 16
NET = [*small_training.SMALL, "--steps", 2, "--model.name", "sphereface4"]
WHOLE = [*NET, "--data.num-identities", len(NEW)]


@pytest.fixture(scope="module")
def weights():
  """Of a small net, with prototypes of four people."""
  net = functional.build("sphereface4", embedding_dim=DIM, image_size=(32, 32))
  rows = np.random.default_rng(0).normal(size=(len(OLD), DIM)).astype("f4")
  return imported.ImportedWeights(*net.init(jax.random.key(5)), rows)


def write(run, weights, *, names=OLD, **about):
  card = card_lib.Card(
    **{"net": "sphereface4", "embedding_dim": DIM, "image_size": (32, 32)}
    | {"identities": len(OLD)}
    | about
  )
  imported.write(run, card, weights, names=names)
  return run


def started(run, *options, devices=1, names=NEW):
  arguments = [*WHOLE, "--init-from", run, *options]
  if len(names) != len(NEW):
    arguments += ["--data.num-identities", len(names)]
  config = recipe.parse([*map(str, arguments)]).to_config()
  init_from.check(config)
  program = small_training.build(arguments, devices)
  return init_from.state(config, program, names)


def fresh(devices=1):
  program = small_training.build(WHOLE, devices)
  return jax.jit(program.init)(jax.random.key(7))


@pytest.mark.parametrize("devices", [1, 8])
def test_classes_come_along_by_name(devices, weights, tmp_path, caplog):
  run = write(tmp_path / "run", weights)
  with caplog.at_level(logging.INFO, "facejax"):
    state = started(run, "--init-prototypes", devices=devices)
  small_training.assert_same_bits(state.params, weights.params)
  drawn = np.asarray(fresh().prototypes)
  for row, place in enumerate(KEPT):
    wanted = weights.prototypes[place] if place >= 0 else drawn[row]
    np.testing.assert_array_equal(state.prototypes[row], wanted)
  assert not np.asarray(state.prototypes[len(NEW) :]).any()
  told = "3 kept, 2 new (eve, fay), 1 dropped (dan)"
  assert f"prototypes of {run} by name: {told}" in caplog.text
  assert "numbers" not in caplog.text


def test_without_its_prototypes_all_are_new(weights, tmp_path):
  state = started(write(tmp_path / "run", weights))
  small_training.assert_same_bits(state.params, weights.params)
  np.testing.assert_array_equal(state.prototypes, fresh().prototypes)


def test_classes_without_names_keep_their_order(weights, tmp_path, caplog):
  run = write(tmp_path / "run", weights, names=())
  state = started(run, "--init-prototypes", names=NEW[1:])
  np.testing.assert_array_equal(state.prototypes, weights.prototypes)
  assert "4 kept in their order" in caplog.text
  with pytest.raises(ValueError, match=r"its 4 classes .* and there are 5"):
    started(run, "--init-prototypes")


def test_names_that_are_numbers_are_told(weights, tmp_path, caplog):
  run = write(tmp_path / "run", weights, names=["0", "1", "2", "3"])
  state = started(run, "--init-prototypes", names=["1", "2", "7", "8", "9"])
  np.testing.assert_array_equal(state.prototypes[:2], weights.prototypes[1:3])
  assert "called by numbers" in caplog.text


@pytest.mark.parametrize(
  ("changes", "options", "message"),
  [
    ({"prototypes": None}, [], "has no prototypes"),
    ({}, ["--config", "subcenter_arcface.py"], "16 numbers there and 3 x 16"),
  ],
)
def test_prototypes_that_cannot_be_taken(
  changes, options, message, weights, tmp_path
):
  run = write(tmp_path / "run", dataclasses.replace(weights, **changes))
  with pytest.raises(ValueError, match=message):
    started(run, "--init-prototypes", *options)


def test_people_of_whom_nobody_is_known(weights, tmp_path):
  run = write(tmp_path / "run", weights)
  with pytest.raises(ValueError, match="none of the 5 classes here, such as"):
    started(run, "--init-prototypes", names=[f"x{n}" for n in range(5)])


def test_new_adapters_lie_beside_the_weights(weights, tmp_path):
  run = write(tmp_path / "run", weights)
  state = started(run, "--model.lora", 2, "--optim.ema", 0.9)
  base = lora.without(state.params)
  small_training.assert_same_bits(base, weights.params)
  assert lora.count(state.params) > 0
  small_training.assert_same_bits(state.average, state.params)


def test_adapters_of_the_other_run_are_merged(weights, tmp_path):
  net = functional.build("sphereface4", embedding_dim=DIM, image_size=(32, 32))
  params, stats = lora.adapted(net, rank=2).init(jax.random.key(3))
  params = jax.tree.map(lambda leaf: leaf + 0.01, params)
  adapted = imported.ImportedWeights(params, stats)
  run = write(tmp_path / "run", adapted, names=(), lora=2, lora_alpha=4.0)
  state = started(run)
  merged = lora.merged(params, alpha=4.0)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7),
    *(state.params, merged),
  )


def test_the_average_is_what_is_gone_on_from(tmp_path, caplog):
  run = tiny_run.write_run(tmp_path / "run")
  options = ["--model.name", "iresnet10_slim"]
  with caplog.at_level(logging.INFO, "facejax"):
    state = started(run, *options, "--optim.ema", 0.9)
  _, _, stats, average = tiny_run.weights()
  small_training.assert_same_bits(state.params, average)
  small_training.assert_same_bits(state.average, average)
  small_training.assert_same_bits(state.stats, stats)
  assert "step 7, the average of its weights" in caplog.text


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--model.name", "iresnet10_slim"], "--model.name sphereface4"),
    (["--model.embedding-dim", 8], "--model.embedding-dim 16"),
    (["--data.image-size", 48, 48], "It takes images of 32 x 32"),
  ],
)
def test_another_net_is_refused(options, message, weights, tmp_path):
  run = write(tmp_path / "run", weights)
  with pytest.raises(ValueError, match=message):
    started(run, *options)


def test_a_file_of_weights_is_to_be_imported(tmp_path):
  path = tmp_path / "backbone.pth"
  path.write_bytes(b"")
  with pytest.raises(ValueError, match=r"facejax\.convert .*backbone\.pth"):
    started(path)


def test_a_run_goes_on_with_other_people(tmp_path):
  """From folder to folder, by the command: one more, one less."""
  photos = tiny_run.write_faces(tmp_path / "photos", people=4)
  arguments = [*NET, "--data.source", "folder", "--data.path", photos]
  arguments += ["--eval.pairs", "none", "--batch-size", 8, "--mesh.devices", 1]
  first, second = tmp_path / "first", tmp_path / "second"
  code, output = small_training.call([*arguments, "--workdir", first])
  assert code == 0, output
  assert classes.read(first) == [f"person{n}" for n in range(4)]
  (photos / "person1").rename(photos / "new")
  arguments += ["--init-from", first, "--init-prototypes"]
  arguments += ["--optim.learning-rate", 1e-12]
  code, output = small_training.call([*arguments, "--workdir", second])
  assert code == 0, output
  assert "3 kept, 1 new (new), 1 dropped (person1)" in " ".join(output.split())
  assert (second / folder.CLASSES).exists()
  _, before = small_training.final_state(arguments, first)
  _, after = small_training.final_state(arguments, second)
  np.testing.assert_allclose(
    after.prototypes[1:], before.prototypes[jnp.array([0, 2, 3])], atol=1e-6
  )
