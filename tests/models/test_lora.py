"""Low-rank adapters: beside the kernels, and merged into them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_nets as tiny

from facejax.models import functional, lora, registry

RANK, ALPHA = 3, 5.0


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


@pytest.fixture(params=sorted(tiny.TINY))
def net(request, monkeypatch):
  monkeypatch.setitem(registry.SPECS, request.param, tiny.TINY[request.param])
  return request.param


def trained(adapted, seed=0):
  """Weights whose adapters have learnt something."""
  params, stats = adapted.init(jax.random.key(seed))
  draw = np.random.default_rng(seed)

  def at(path, leaf):
    if path[-1].key != "lora_b":
      return leaf
    return jnp.asarray(0.1 * draw.normal(size=leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(at, params), stats


def leaves(params, *names):
  return {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree.leaves_with_path(params)
    if path[-1].key in names
  }


def test_a_layer_with_adapters_adds_their_product(x64):
  """The formula as the paper writes it, a convolution and a linear layer."""
  draw = np.random.default_rng(0)
  x = jnp.asarray(draw.normal(size=(2, 6, 6, 4)))
  layer = {
    "kernel": jnp.asarray(draw.normal(size=(3, 3, 4, 7))),
    "lora_a": jnp.asarray(draw.normal(size=(3, 3, 4, RANK))),
    "lora_b": jnp.asarray(draw.normal(size=(RANK, 7))),
    "bias": jnp.zeros(7),
  }

  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  merged = lora.merged({"layer": layer}, alpha=ALPHA)["layer"]
  assert set(merged) == {"kernel", "bias"}
  down = convolve(x, layer["lora_a"])
  wanted = convolve(x, layer["kernel"]) + ALPHA / RANK * down @ layer["lora_b"]
  np.testing.assert_allclose(
    convolve(x, merged["kernel"]), wanted, rtol=1e-12, atol=1e-12
  )
  rows = jnp.asarray(draw.normal(size=(5, 36)))
  flat = {
    "kernel": layer["kernel"].reshape(36, 7),
    "lora_a": layer["lora_a"].reshape(36, RANK),
    "lora_b": layer["lora_b"],
  }
  found = rows @ lora.merged(flat, alpha=ALPHA)["kernel"]
  wanted = rows @ flat["kernel"]
  wanted += ALPHA / RANK * (rows @ flat["lora_a"]) @ flat["lora_b"]
  np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_any_net_has_them_and_merges_them(net, x64):
  plain = tiny.build(net, dtype=jnp.float64)
  adapted = lora.adapted(plain, rank=RANK, alpha=ALPHA)
  params, stats = trained(adapted)
  kernels = leaves(params, "kernel")
  assert kernels and len(kernels) == len(leaves(params, "lora_a"))
  images = tiny.images(2)
  apart, _ = adapted.apply(params, stats, images, train=False)
  together, _ = plain.apply(
    lora.merged(params, alpha=ALPHA), stats, images, train=False
  )
  base, _ = plain.apply(lora.without(params), stats, images, train=False)
  np.testing.assert_allclose(apart, together, rtol=1e-12, atol=1e-12)
  assert np.abs(apart - base).max() > 1e-3


def test_the_net_begins_as_it_was(net):
  plain = tiny.build(net)
  adapted = lora.adapted(plain, rank=RANK)
  params, _ = adapted.init(jax.random.key(1))
  own, _ = plain.init(jax.random.key(1))
  jax.tree.map(np.testing.assert_array_equal, lora.without(params), own)
  merged = lora.merged(params, alpha=ALPHA)
  jax.tree.map(np.testing.assert_array_equal, merged, own)
  # Adapters are no larger than what they change may be.
  for name, kernel in leaves(params, "kernel").items():
    layer = name.removesuffix("['kernel']")
    a, b = (leaves(params, n)[f"{layer}['{n}']"] for n in lora.ADAPTERS)
    rank = min(RANK, kernel.size // kernel.shape[-1], kernel.shape[-1])
    assert a.shape == (*kernel.shape[:-1], rank)
    assert b.shape == (rank, kernel.shape[-1])
    assert np.abs(a).max() > 0 and not np.any(b)


def test_shapes_are_those_of_the_weights(net):
  plain = tiny.build(net)
  shapes = tiny.abstract(plain)[0]
  like = lora.like(shapes, rank=RANK)
  wanted = tiny.abstract(lora.adapted(plain, rank=RANK))[0]
  assert jax.tree.map(lambda x: (x.shape, x.dtype), like) == jax.tree.map(
    lambda x: (x.shape, x.dtype), wanted
  )
  number = sum(x.size for x in leaves(wanted, *lora.ADAPTERS).values())
  assert lora.count(wanted) == number
  assert lora.count(shapes) == 0


def test_adapters_alone_have_a_gradient(monkeypatch):
  monkeypatch.setitem(
    registry.SPECS, "tiny_sphereface", tiny.TINY["tiny_sphereface"]
  )
  adapted = lora.adapted(tiny.build("tiny_sphereface"), rank=RANK)
  params, stats = trained(adapted)

  def loss(params):
    embeddings, _ = adapted.apply(params, stats, tiny.images(2), train=True)
    return (embeddings**2).sum()

  gradient = jax.jit(jax.grad(loss))(params)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.any(leaf) == (path[-1].key in lora.ADAPTERS), path


def test_other_weights_go_beneath(monkeypatch):
  monkeypatch.setitem(
    registry.SPECS, "tiny_sphereface", tiny.TINY["tiny_sphereface"]
  )
  plain = tiny.build("tiny_sphereface")
  params, _ = trained(lora.adapted(plain, rank=RANK))
  other, _ = plain.init(jax.random.key(9))
  found = lora.onto(params, other)
  jax.tree.map(np.testing.assert_array_equal, lora.without(found), other)
  for name in lora.ADAPTERS:
    jax.tree.map(
      np.testing.assert_array_equal, leaves(found, name), leaves(params, name)
    )
  # A net without adapters is the other one.
  jax.tree.map(np.testing.assert_array_equal, lora.onto(other, other), other)


def test_rank_0_is_the_net_itself():
  plain = tiny.build("sphereface4")
  assert lora.adapted(plain, rank=0) is plain


def test_a_net_without_kernels_is_refused():
  plain = functional.Backbone(
    *("own", 4, (8, 8), 0, lambda key: ({"w": jnp.ones(3)}, {})),
    lambda *given, **options: None,
  )
  with pytest.raises(ValueError, match=r"model\.lora=3: this net has no kern"):
    lora.adapted(plain, rank=RANK).init(jax.random.key(0))
