"""iResNet: published sizes, padding, statistics, and the pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import tiny_nets

from facejax.models import functional, iresnet, layers

# Published counts hold the 512 scales of the last BatchNorm, fixed at 1.
PUBLISHED = {
  "iresnet18": (24_025_600, 14_720, 2.610),
  "iresnet34": (34_139_328, 25_856, 4.460),
  "iresnet50": (43_590_848, 38_144, 6.309),
  "iresnet100": (65_156_160, 69_632, 12.090),
  "iresnet200": (118_833_920, 136_064, 23.419),
}


# Of the generator that compiles in half the time.
KEY = jax.random.key(0, impl="rbg")


def build(**options):
  """A small member of the family on small images."""
  return functional.build(
    "iresnet10_slim", embedding_dim=24, image_size=(32, 48), **options
  )


@pytest.fixture(scope="module")
def tiny():
  """The net with its weights, and `apply` compiled."""
  net = build()
  return net, *jax.jit(net.init)(KEY), compiled(net)


def compiled(net):
  return jax.jit(net.apply, static_argnames="train")


def images(batch=8):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (batch, 32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
  net = functional.build(name, embedding_dim=512, image_size=(112, 112))
  params, stats = jax.eval_shape(net.init, jax.random.key(0))
  count, running, giga = PUBLISHED[name]
  assert functional.count(params) == count - 512
  assert functional.count(stats) == running
  assert net.multiply_adds / 1e9 == pytest.approx(giga, abs=1e-3)


def test_multiply_adds_are_those_of_the_graph(tiny):
  net, params, stats, _ = tiny

  def forward(x):
    return net.apply(params, stats, x, train=False)[0]

  graph = tiny_nets.equations(jax.make_jaxpr(forward)(images(1)).jaxpr)
  total = sum(map(tiny_nets.multiply_adds, graph))
  assert total == net.multiply_adds


def test_embeddings_are_float32_and_depend_on_the_image_only(tiny):
  _, params, stats, apply = tiny
  batch = images()
  embeddings, same = apply(params, stats, batch, train=False)
  assert embeddings.shape == (8, 24) and embeddings.dtype == jnp.float32
  jax.tree.map(np.testing.assert_array_equal, same, stats)
  alone, _ = apply(params, stats, batch[3:4], train=False)
  np.testing.assert_allclose(alone[0], embeddings[3], atol=1e-4)


def test_training_updates_the_running_statistics(tiny):
  _, params, stats, apply = tiny
  embeddings, new = apply(params, stats, images(), train=True)
  # The last BatchNorm has scale 1 and bias 0 at the start.
  np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(embeddings.var(axis=0), 1, atol=1e-2)
  changed = jax.tree.map(lambda a, b: bool((a != b).any()), stats, new)
  assert all(jax.tree.leaves(changed))


def test_bfloat16_trunk_stays_near_float32(tiny):
  _, params, stats, apply = tiny
  half = compiled(build(dtype=jnp.bfloat16))
  expected, _ = apply(params, stats, images(), train=True)
  actual, new_stats = half(params, stats, images(), train=True)
  assert actual.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(new_stats)} == {
    jnp.dtype("float32")
  }
  unit = [
    x / np.linalg.norm(x, axis=1, keepdims=True) for x in (actual, expected)
  ]
  assert (unit[0] * unit[1]).sum(axis=1).min() > 0.98
  assert np.abs(actual - expected).max() > 0  # it did compute in bfloat16


def test_dropout_follows_its_key(tiny):
  _, params, stats, _ = tiny
  apply = compiled(build(dropout=0.5))

  def run(key):
    return apply(params, stats, images(), train=True, dropout_key=key)[0]

  one, again, other = (run(jax.random.key(i)) for i in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 0.1


def test_stride_two_convolution_is_padded_on_both_sides():
  conv = layers.conv(1, 1, 3, stride=2, rngs=nnx.Rngs(0))
  conv.kernel[...] = jnp.ones((3, 3, 1, 1))
  x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1).at[0, 3, 3, 0].set(1)
  # Windows are centred on pixels 0 and 2, as torch's padding=1 has it.
  np.testing.assert_array_equal(conv(x)[0, :, :, 0], [[1, 0], [0, 1]])


def test_prelu_has_one_slope_a_channel():
  prelu = layers.PReLU(3, rngs=nnx.Rngs(0))
  prelu.slope[...] = jnp.array([0.0, 0.25, 2.0])
  np.testing.assert_array_equal(
    prelu(jnp.array([[-4.0, -4.0, -4.0], [1.0, 2.0, 3.0]])),
    [[0, -1, -8], [1, 2, 3]],
  )


@pytest.mark.parametrize("size", [(100, 112), (0, 16)])
def test_image_size_must_halve_four_times(size):
  with pytest.raises(ValueError, match="multiples of 16"):
    functional.build("iresnet18", embedding_dim=8, image_size=size)


def test_unknown_net_lists_the_known():
  with pytest.raises(ValueError, match="'resnet' is unknown.*iresnet50"):
    functional.build("resnet", embedding_dim=8, image_size=(32, 32))


def test_initial_weights_are_the_published_distributions():
  spec = iresnet.NETS["iresnet18"]
  assert spec.widths == (64, 128, 256, 512)
  net = functional.build("iresnet18", embedding_dim=64, image_size=(32, 32))
  params, _ = jax.jit(net.init)(KEY)
  kernel = np.asarray(params["blocks"][7]["conv2"]["kernel"])
  assert kernel.std() == pytest.approx(0.1, rel=0.01)
  linear = np.asarray(params["linear"]["kernel"])
  bound = 1 / np.sqrt(4 * 512)
  assert np.abs(linear).max() <= bound
  assert linear.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
  assert (np.asarray(params["stem_prelu"]["slope"]) == 0.25).all()
