"""Programs for GPUs and TPUs, made on a CPU, hold nothing of the CPU's."""

import collections
import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from helpers import heads

from facejax.head import api, memory
from facejax.models import functional
from facejax.runtime import mesh as mesh_lib
from facejax.training import build, recipe
from facejax.training.objectives import definition, registry

PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}
# One of each architecture, whose backward pass is lowered too: larger ones have
# more of the same blocks.
BOTH_WAYS = (
  *("iresnet18", "ir18", "ir50_evolve", "sphereface4", "mobilefacenet", "mbf"),
  *("vit_t", "nn4_small2", "nn1", "inception_slim", "inception_resnet_v1"),
)
# Sides of images, of which each net takes the first that it can.
SIDES = (16, 32, 48, 64, 80, 96, 112, 160, 220)
LOSSES = [
  name
  for name, value in vars(registry).items()
  if isinstance(value, type) and value.__module__ != definition.__name__
]


@pytest.fixture(params=PLATFORMS)
def lower(request, monkeypatch):
  """Lowers for a platform, whatever the mesh is; returns the text."""
  platform = PLATFORMS[request.param]
  monkeypatch.setattr(mesh_lib, "platform", lambda mesh: platform)

  def lower(traced):
    return traced.lower(lowering_platforms=(request.param,)).as_text()

  return lower


def check(text):
  """No double precision, no call back to the host, no kernel of a library."""
  assert not re.search(r"\bf64\b|xf64>", text)
  assert "callback" not in text and "infeed" not in text
  targets = set(re.findall(r"custom_call @([\w.$]+)", text))
  assert targets <= {
    *("Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"),
    *("xla.sdy.FuncResultSharding", "mhlo.topk", "ApproxTopK"),
  }, targets


def smallest(name):
  """The smallest image that a net takes; its layers are the same."""
  for side in SIDES:
    try:
      functional.check_image_size(name, (side, side))
    except ValueError:
      continue
    return side
  raise AssertionError(f"{name} takes none of {SIDES}")


@pytest.mark.parametrize("name", functional.NETS)
def test_nets(name):
  """Both platforms in one program, which has what each takes of its own."""
  side = smallest(name)
  net = functional.build(
    name, embedding_dim=32, image_size=(side, side), dtype=jnp.bfloat16
  )
  params, stats = jax.eval_shape(net.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((4, side, side, 3), jnp.uint8)

  def total(params, stats, images, key):
    out = net.apply(params, stats, images, train=True, dropout_key=key)[0]
    return out.astype(jnp.float32).sum()

  key = jax.eval_shape(jax.random.key, 0)
  run = jax.grad(total) if name in BOTH_WAYS else total
  traced = jax.jit(run).trace(params, stats, images, key)
  text = traced.lower(lowering_platforms=tuple(PLATFORMS)).as_text()
  check(text)
  # Images cross as bytes, and products are of bfloat16 on both sides.
  assert f"tensor<4x{side}x{side}x3xui8>" in text
  heavy = re.findall(
    r"stablehlo\.convolution.*: \(tensor<\S+x(\w+)>, tensor<\S+x(\w+)>\)", text
  )
  heavy += re.findall(
    r"stablehlo\.dot_general.*: \(tensor<\S+x(\w+)>, tensor<\S+x(\w+)>\)", text
  )
  kinds = collections.Counter(heavy)
  # What makes the embedding of the last map is float32 throughout, by design.
  assert set(kinds) <= {("bf16", "bf16"), ("f32", "f32")}
  assert kinds["f32", "f32"] <= 9 * len(PLATFORMS)
  assert kinds["bf16", "bf16"] > 9


@pytest.mark.parametrize(
  "implementation", ["fused", "chunked", "dense", "partial_fc", "sparse"]
)
@pytest.mark.parametrize("storage", ["float32", "bfloat16", "float8"])
def test_heads(implementation, storage, lower):
  if storage != "float32" and implementation in ("chunked", "dense"):
    pytest.skip("keeps float32 alone")
  mesh = mesh_lib.make_mesh(devices=8, model=4)
  head = api.Head(
    heads.COSFACE,
    10_000,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    implementation=implementation,
    precision="bfloat16",
    storage=storage,
    optimizer_storage=storage,
  )
  text = lower(memory.traced_step(head, dim=64, batch=64))
  check(text)
  products = re.findall(
    r"stablehlo\.dot_general.*: \(tensor<\S+x(\w+)>, tensor<\S+x(\w+)>\)", text
  )
  if implementation != "dense":  # the specification is float32 throughout
    assert products and set(products) == {("bf16", "bf16")}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, lower):
  config = recipe.parse(
    ["--config", "cosface.py", "--data.image-size", "32", "32"]
  ).to_config()
  loss = vars(registry)[name]()
  config = dataclasses.replace(config, loss=loss)
  if getattr(loss, "needs_table", False):
    head = dataclasses.replace(config.head, implementation="dense")
    config = dataclasses.replace(config, head=head)
  program = build.build(config, num_classes=500, total_steps=10)
  images = jax.ShapeDtypeStruct(
    (config.batch_size, 32, 32, 3),
    jnp.uint8,
    sharding=mesh_lib.sharding(program.mesh, mesh_lib.BATCH),
  )
  labels = jax.ShapeDtypeStruct(
    (config.batch_size,),
    jnp.int32,
    sharding=mesh_lib.sharding(program.mesh, mesh_lib.BATCH),
  )
  check(lower(program.step.trace(program.like, images, labels)))
