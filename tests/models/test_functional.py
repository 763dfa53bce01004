"""The nets of the field at work: they learn, drop, recompute, and say both."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import tiny_nets

from facejax.models import (
  batch_norm,
  depthwise,
  functional,
  halving,
  masking,
  registry,
  trunk,
)
from facejax.runtime import mesh as mesh_lib

# What they drop in training, where they can.
OPTIONS: dict[str, Any] = {
  "tiny_iresnet": {"drop_path": 0.5},
  "tiny_vit": {"drop_path": 0.5, "mask_ratio": 0.25},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  for name, spec in tiny_nets.TINY.items():
    monkeypatch.setitem(registry.SPECS, name, spec)


@functools.cache
def compiled_step(name, remat=False):
  """(params, stats, key) -> loss and what comes of it, for a fixed batch."""
  net = tiny_nets.build(name, remat=remat, **OPTIONS.get(name, {}))
  towards = np.random.default_rng(1).normal(size=(8, 16))

  @jax.jit
  def step(params, stats, key):
    def loss(params):
      embeddings, new = net.apply(
        params, stats, tiny_nets.images(), train=True, dropout_key=key
      )
      return ((embeddings - towards) ** 2).mean(), (embeddings, new)

    (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    square = sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient))
    rate = 0.05 * value / square
    params = jax.tree.map(lambda p, g: p - rate * g, params, gradient)
    return value, params, gradient, *aux

  return step


@functools.cache
def initialized(name):
  init = tiny_nets.build(name, **OPTIONS.get(name, {})).init
  return jax.jit(init)(jax.random.key(0, impl="rbg"))


@pytest.mark.parametrize("name", tiny_nets.TINY)
def test_a_step_lowers_the_loss_in_the_same_way_each_time(name):
  (params, stats), key = initialized(name), jax.random.key(2)
  step = compiled_step(name)
  before, once, gradient, embeddings, new_stats = step(params, stats, key)
  jax.tree.map(np.testing.assert_array_equal, step(params, stats, key)[1], once)
  assert step(once, stats, key)[0] < before
  for path, leaf in jax.tree.leaves_with_path(gradient):
    where = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, where
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), stats, new_stats)
  assert all(jax.tree.leaves(changed))
  if name in OPTIONS:  # what is dropped follows the key
    *_, others, _ = step(params, stats, jax.random.key(3))
    assert np.abs(embeddings - others).max() > 0.1


@pytest.mark.parametrize("name", tiny_nets.TINY)
def test_recomputing_blocks_changes_nothing(name):
  (params, stats), key = initialized(name), jax.random.key(2)
  expected, actual = (
    compiled_step(name, remat)(params, stats, key) for remat in (False, True)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, atol=2e-4 * max(np.abs(b).max(), 1)
    ),
    actual,
    expected,
  )
  plain, remat = (kept(tiny_nets.build(name, remat=x)) for x in (False, True))
  assert remat < 0.7 * plain


def kept(net):
  """How many numbers the backward pass of one image takes from the forward."""
  batch = jax.ShapeDtypeStruct((2, *net.image_size, 3), jnp.uint8)

  def pull(params, stats, batch):
    def embed(params):
      return net.apply(params, stats, batch, train=True)[0]

    return jax.vjp(embed, params)[1]

  params, stats = tiny_nets.abstract(net)
  residuals = jax.eval_shape(pull, params, stats, batch)
  return functional.count(residuals) - functional.count(params)


@pytest.mark.parametrize("name", tiny_nets.TINY)
def test_bfloat16_trunk_stays_near_float32(name):
  (params, stats), key = initialized(name), jax.random.key(2)
  *_, expected, _ = compiled_step(name)(params, stats, key)
  net = tiny_nets.build(name, dtype=jnp.bfloat16, **OPTIONS.get(name, {}))

  @jax.jit
  def embed(params, stats, batch):
    return net.apply(params, stats, batch, train=True, dropout_key=key)

  actual, new_stats = embed(params, stats, tiny_nets.images())
  assert actual.dtype == jnp.float32
  assert {x.dtype for x in jax.tree.leaves(new_stats)} <= {jnp.dtype("f4")}
  cosine = (actual * expected).sum(axis=1)
  cosine /= np.linalg.norm(actual, axis=1) * np.linalg.norm(expected, axis=1)
  assert cosine.min() > 0.98
  assert np.abs(actual - expected).max() > 0  # it did compute in bfloat16


def test_attention_takes_its_softmax_in_float32():
  graph = tiny_nets.forward(tiny_nets.build("tiny_vit", dtype=jnp.bfloat16))
  exponentials = [
    x for x in tiny_nets.equations(graph) if x.primitive.name == "exp"
  ]
  assert len(exponentials) == tiny_nets.TINY["tiny_vit"].depth
  assert {x.outvars[0].aval.dtype for x in exponentials} == {jnp.dtype("f4")}


@pytest.mark.parametrize("name", tiny_nets.TINY)
def test_nothing_is_dropped_without_a_key(name):
  graph = tiny_nets.forward(
    tiny_nets.build(name, **OPTIONS.get(name, {})), train=True
  )
  assert str(graph) == str(tiny_nets.forward(tiny_nets.build(name), train=True))


@pytest.mark.parametrize("with_bn", [True, False])
def test_embeddings_before_and_after_their_batch_norm(with_bn):
  class Net(trunk.Net):
    def __init__(self):
      norm = batch_norm.BatchNorm(3, rngs=nnx.Rngs(0))
      self.embedding_bn = norm if with_bn else None

    def features(self, images, *, dropout_key):
      return images

  net, x = Net(), jnp.arange(12.0).reshape(4, 3)
  np.testing.assert_array_equal(net(x, before_bn=True), x)
  mean, std = x.mean(axis=0, keepdims=True), x.std(axis=0, keepdims=True)
  after = (x - mean) / std if with_bn else x
  np.testing.assert_allclose(net(x), after, rtol=1e-5)


@pytest.mark.parametrize("name", [*tiny_nets.TINY, "inception_slim"])
def test_every_net_gives_both(name):
  net = tiny_nets.build(name)
  has_bn = name not in ("tiny_sphereface", "inception_slim")
  assert ("embedding_bn" in tiny_nets.abstract(net)[1]) == has_bn
  before, after = (
    tiny_nets.forward(net, before_bn=before_bn) for before_bn in (True, False)
  )
  assert (str(before) != str(after)) == has_bn
  assert (len(before.eqns) < len(after.eqns)) == has_bn


def test_drop_path_keeps_the_mean():
  x = jnp.ones((4096, 2, 3))
  y = np.asarray(trunk.drop_path(x, rate=0.25, key=jax.random.key(0)))
  assert set(np.unique(y)) == {0, np.float32(1 / 0.75)}
  assert (y == y[:, :1, :1]).all()  # an image drops all of it or nothing
  assert y.mean() == pytest.approx(1, abs=0.02)


def test_masked_tokens_come_back_in_their_place():
  x = jnp.arange(3 * 20.0).reshape(3, 20, 1)
  kept, places = masking.mask(x, ratio=0.3, key=jax.random.key(0))
  assert kept.shape == (3, 14, 1)
  assert all(len(set(row)) == 14 for row in kept[..., 0].tolist())
  filled = masking.unmask(kept, places, jnp.full((1, 1, 1), -1.0))
  np.testing.assert_array_equal((filled == -1).sum(axis=(1, 2)), [6, 6, 6])
  np.testing.assert_array_equal(filled, jnp.where(filled == -1, -1, x))
  assert len({tuple(row) for row in (filled == -1)[..., 0].tolist()}) == 3


def both(convolve, x, kernel):
  """What a convolution makes of maps, and its gradients."""
  y, pull = jax.vjp(convolve, x, kernel)
  return y, *pull(jnp.cos(y))


def plain(x, kernel, stride, groups=1):
  pad = (kernel.shape[0] // 2,) * 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    (pad, pad),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_halving_convolution_is_that_of_every_device(size, side, devices):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(8, *size, 5)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(side, side, 5, 7)), jnp.float32)
  expected = jax.jit(lambda *a: both(lambda x, k: plain(x, k, 2), *a))(
    x, kernel
  )
  mesh = mesh_lib.make_mesh(devices=devices)
  x = jax.device_put(x, mesh_lib.sharding(mesh, mesh_lib.BATCH))
  ours = jax.jit(lambda *a: both(halving.halve, *a))
  for one, other in zip(ours(x, kernel), expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  lowered = ours.trace(x, kernel).lower(lowering_platforms=("cuda",))
  text = lowered.as_text()
  assert text.count("stablehlo.convolution") == 3


@pytest.mark.parametrize(
  ("size", "side", "stride", "groups"),
  [((4, 5), 3, 2, 1), ((4, 4), 5, 2, 1), ((4, 4), 3, 1, 1), ((4, 4), 3, 2, 2)],
)
def test_other_convolutions_pass_as_they_are(size, side, stride, groups):
  x = jnp.arange(np.prod(size) * 4, dtype=jnp.float32).reshape(1, *size, 4)
  kernel = jnp.ones((side, side, 4 // groups, 6))
  pad = ((side // 2,) * 2,) * 2
  options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
  actual = halving.convolution(
    x, kernel, (stride,) * 2, pad, feature_group_count=groups, **options
  )
  np.testing.assert_array_equal(actual, plain(x, kernel, stride, groups))


@pytest.mark.parametrize(
  ("size", "stride", "mixed"),
  [((5, 6), 1, 1), ((5, 6), 2, 1), ((4, 5), 2, 2), ((3, 3), 1, 2)],
)
def test_grouped_convolution_is_that_of_every_device(size, stride, mixed):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *size, 8)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, mixed, 8)), jnp.float32)

  def expected(x, kernel):
    return plain(x, kernel, stride, groups=8 // mixed)

  def actual(x, kernel):
    return depthwise.grouped_conv(x, kernel, stride=stride)

  for ours, theirs in zip(
    *(
      jax.jit(both, static_argnums=0)(f, x, kernel) for f in (actual, expected)
    ),
    strict=True,
  ):
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
  lowered = jax.jit(actual).trace(x, kernel)
  text = lowered.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("stablehlo.convolution") == 1
