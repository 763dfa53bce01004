"""Groups of the trunk's weights against each weight's own optimizer."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import small_training, tiny_run

from facejax.models import functional
from facejax.training import groups, optim, recipe
from facejax.training import state as train_state

OWN = {"sgd": optim.sgd, "adamw": optim.adamw, "lion": optim.lion}
OWN["adagrad"] = optim.adagrad


def shapes(name, side=48):
  net = functional.build(name, embedding_dim=16, image_size=(side, side))
  return jax.eval_shape(net.init, jax.random.key(0))[0]


def small():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  return {
    "stem": {"kernel": draw(3, 4)},
    "blocks": {
      "0": {"conv": {"kernel": draw(4, 4)}, "bn": {"scale": draw(4)}},
      "1": {"conv": {"kernel": draw(4, 4)}, "bn": {"scale": draw(4)}},
    },
    "linear": {"kernel": draw(4, 2), "bias": draw(2)},
  }


def steps(tx, params, count=3):
  """Weights after some steps; the gradients are the same for all optimizers."""
  rng = np.random.default_rng(1)
  state = tx.init(params)
  for _ in range(count):
    gradient = jax.tree.map(
      lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params
    )
    updates, state = tx.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def close(a, b):
  return np.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", OWN)
def test_decay_of_kernels_alone(name):
  """Kernels go as where all decay, the rest as where nothing does."""
  params, make = small(), OWN[name]
  rate = optax.constant_schedule(0.1)
  found, _ = steps(make(rate, weight_decay=0.1, decayed=groups.kernels), params)
  decayed, _ = steps(make(rate, weight_decay=0.1), params)
  free, _ = steps(make(rate), params)
  assert not close(decayed["stem"]["kernel"], free["stem"]["kernel"])
  which = groups.kernels(params)
  wanted = jax.tree.map(lambda w, a, b: a if w else b, which, decayed, free)
  assert jax.tree.all(jax.tree.map(close, found, wanted))
  told = dict(zip(groups.names(params), jax.tree.leaves(which), strict=True))
  assert told["blocks.0.conv.kernel"] and not told["blocks.0.bn.scale"]
  assert not told["linear.bias"]


@pytest.mark.parametrize("name", ["iresnet10_slim", "vit_t", "mobilefacenet"])
def test_what_counts_as_a_kernel(name):
  which = groups.kernels(params := shapes(name))
  told = dict(zip(groups.names(params), jax.tree.leaves(which), strict=True))
  for weight, decays in told.items():
    last = weight.rpartition(".")[2]
    assert decays == (last == "kernel")
    assert last in [
      "kernel",
      "bias",
      "scale",
      "slope",
      "positions",
      "mask_token",
    ]
  assert sum(told.values()) > 5 and not all(told.values())


def test_the_frozen_stays_and_costs_nothing():
  params = small()
  tx = optim.sgd(optax.constant_schedule(0.1), weight_decay=0.1)
  found, state = steps(groups.freeze(tx, r"stem|blocks\.0\."), params)
  np.testing.assert_array_equal(
    found["stem"]["kernel"], params["stem"]["kernel"]
  )
  np.testing.assert_array_equal(
    found["blocks"]["0"]["bn"]["scale"], params["blocks"]["0"]["bn"]["scale"]
  )
  wanted, held = steps(tx, params)
  for part in ("linear", "blocks"):
    a = found[part] if part == "linear" else found[part]["1"]
    b = wanted[part] if part == "linear" else wanted[part]["1"]
    assert jax.tree.all(jax.tree.map(close, a, b))
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(each)) for each in (state, held)
  ]
  assert sizes[1] - sizes[0] == 12 + 16 + 4


def test_the_norm_of_the_gradient_is_that_of_the_trained():
  params = small()
  tx = optim.sgd(optax.constant_schedule(1.0), momentum=0.0, clip_norm=1.0)
  found, _ = steps(groups.freeze(tx, "stem|blocks"), params, count=1)
  moved = jax.tree.map(jnp.subtract, found, params)
  assert float(optax.tree.norm(moved)) == pytest.approx(1.0)


@pytest.mark.parametrize("frozen", ["", r"blocks\.1"])
def test_rates_fall_with_depth(frozen):
  params = small()
  tx = optim.adamw(optax.constant_schedule(0.1), weight_decay=0.1)
  whole, _ = steps(tx, params, count=1)
  slower = groups.by_depth(tx, 0.5, last=2)
  slower = groups.freeze(slower, frozen) if frozen else slower
  found, _ = steps(slower, params, count=1)
  moved = jax.tree.map(jnp.subtract, found, params)
  wanted = jax.tree.map(jnp.subtract, whole, params)
  share = jax.tree.map(lambda a, b: np.asarray(a / b), moved, wanted)
  np.testing.assert_allclose(share["stem"]["kernel"], 0.125, rtol=1e-3)
  np.testing.assert_allclose(
    share["blocks"]["0"]["conv"]["kernel"], 0.25, rtol=1e-3
  )
  np.testing.assert_allclose(
    share["blocks"]["1"]["bn"]["scale"], 0 if frozen else 0.5, rtol=1e-3
  )
  np.testing.assert_allclose(share["linear"]["bias"], 1.0, rtol=1e-3)


def test_depth_of_a_vit():
  params = shapes("vit_t")
  assert groups.blocks(params) == 12
  tx = groups.by_depth(optax.identity(), 0.5, last=12)
  ones = jax.tree.map(lambda leaf: np.ones(leaf.shape[-1:]), params)
  found, _ = tx.update(ones, tx.init(ones), ones)
  first = {
    name: float(leaf[0])
    for name, leaf in zip(
      groups.names(found), jax.tree.leaves(found), strict=True
    )
  }
  assert first["patches.kernel"] == first["positions"] == 0.5**13
  assert first["blocks.0.fc1.kernel"] == 0.5**12
  assert first["blocks.11.fc1.kernel"] == 0.5
  assert first["norm.scale"] == first["linear.kernel"] == 1


@pytest.mark.parametrize(
  ("freeze", "layer_decay", "message"),
  [
    ("(", 1.0, "no regular expression"),
    ("layers", 1.0, "no weight's name starts so.*blocks, .*stem"),
    (".*", 1.0, "all weights match"),
  ],
)
def test_what_is_refused(freeze, layer_decay, message):
  with pytest.raises(ValueError, match=message):
    groups.check(
      shapes("iresnet10_slim"), freeze=freeze, layer_decay=layer_decay
    )


def test_depth_needs_blocks():
  params = {"stem": {"kernel": np.zeros(3)}}
  with pytest.raises(ValueError, match="not in numbered blocks"):
    groups.check(params, freeze="", layer_decay=0.75)


GROUPED = [
  *small_training.SMALL,
  *("--optim.freeze", r"stem|blocks\.0\.", "--optim.decay", "kernels"),
  *("--optim.layer-decay", 0.7, "--optim.clip-norm", 1.0),
]


def test_a_run_keeps_its_groups_when_it_goes_on(tmp_path):
  arguments = [*GROUPED, "--steps", 4, "--checkpoint.every", 2]
  whole, again = tmp_path / "whole", tmp_path / "again"
  code, output = small_training.call([*arguments, "--workdir", whole])
  assert code == 0, output
  code, output = small_training.call([*arguments, "--workdir", again])
  assert code == 0, output
  shutil.rmtree(again / "checkpoints" / "4")
  shutil.rmtree(again / "report")
  code, output = small_training.call([*arguments, "--workdir", again])
  assert code == 0 and "resumed at step 2" in output
  step, state = small_training.final_state(arguments, whole)
  again_step, resumed = small_training.final_state(arguments, again)
  assert step == again_step == 4
  jax.tree.map(np.testing.assert_array_equal, state.params, resumed.params)
  program = small_training.build(arguments)
  start = train_state.create(program.init, program.like, seed=7)
  names = groups.names(start.params)
  before, after = jax.tree.leaves(start.params), jax.tree.leaves(state.params)
  for name, a, b in zip(names, before, after, strict=True):
    frozen = name.startswith(("stem", "blocks.0."))
    if frozen or name.endswith("kernel"):  # a bias before a norm stays, too
      assert np.array_equal(a, b) == frozen, name


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--optim.freeze", "layers"], "optim.freeze='layers': no weight's name"),
    (["--optim.layer-decay", "1.5"], "optim.layer_decay=1.5.*(0, 1]"),
  ],
)
def test_a_command_that_cannot_be_meant(options, message, tmp_path):
  code, output = small_training.call(
    [*small_training.SMALL, "--steps", 2, "--workdir", tmp_path / "w", *options]
  )
  assert code == 2 and "Traceback" not in output
  assert message.split(".*")[0] in output
  assert not (tmp_path / "w").exists()


def test_a_recipe_takes_them():
  config = recipe.parse([*map(str, GROUPED), "--steps", "2"]).to_config()
  assert config.optim.decay == "kernels" and config.optim.layer_decay == 0.7


def test_fine_tuning_leaves_what_it_should(tmp_path):
  """Of a run that is gone on from: blocks and statistics as they were."""
  first = tiny_run.write_run(tmp_path / "first")
  arguments = [
    *(*small_training.SMALL, "--steps", 2, "--workdir", tmp_path / "second"),
    *("--init-from", first, "--data.crop", 0.9, "--model.bn-frozen"),
    *("--optim.freeze", "stem|blocks", "--optim.decay", "kernels"),
  ]
  code, output = small_training.call(arguments)
  assert code == 0, output
  _, state = small_training.final_state(arguments, tmp_path / "second")
  _, _, stats, params = tiny_run.weights()
  jax.tree.map(np.testing.assert_array_equal, state.stats, stats)
  jax.tree.map(
    np.testing.assert_array_equal, state.params["blocks"], params["blocks"]
  )
  moved = state.params["linear"]["kernel"] - params["linear"]["kernel"]
  assert np.abs(moved).max() > 1e-6
