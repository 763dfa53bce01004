"""FaceNet's nets: every row of the published tables, and what they take."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import tiny_nets

from facejax.models import (
  facenet,
  functional,
  inception,
  zeiler_fergus,
)

# Of the generator that compiles in half the time.
KEY = jax.random.key(0, impl="rbg")

# Name -> (published image size, convolution and linear weights, multiply-adds).
PUBLISHED = {
  "nn1": (220, 140_006_592, 1_605_944_064),
  "nn2": (224, 7_448_256, 1_596_530_688),
  "nn3": (160, 7_448_256, 814_620_672),
  "nn4": (96, 6_936_256, 288_870_400),
  "nn4_small2": (96, 3_719_872, 206_919_680),
}
# Of everything that is learnt, with BatchNorm, as OpenFace counts it.
OPENFACE = {"nn2": 7_472_144, "nn4": 6_959_088, "nn4_small2": 3_733_968}

# Row -> (side and channels of its result, weights, millions of multiply-adds).
NN1_ROWS = {
  "conv1": (110, 64, 9_408, 113.8),
  "pool1": (55, 64, 0, 0),
  "rnorm1": (55, 64, 0, 0),
  "conv2a": (55, 64, 4_096, 12.4),
  "conv2": (55, 192, 110_592, 334.5),
  "rnorm2": (55, 192, 0, 0),
  "pool2": (28, 192, 0, 0),
  "conv3a": (28, 192, 36_864, 28.9),
  "conv3": (28, 384, 663_552, 520.2),
  "pool3": (14, 384, 0, 0),
  "conv4a": (14, 384, 147_456, 28.9),
  "conv4": (14, 256, 884_736, 173.4),
  "conv5a": (14, 256, 65_536, 12.8),
  "conv5": (14, 256, 589_824, 115.6),
  "conv6a": (14, 256, 65_536, 12.8),
  "conv6": (14, 256, 589_824, 115.6),
  "pool4": (7, 256, 0, 0),
}
NN2_ROWS = {
  "conv1": (112, 64, 9_408, 118.0),
  "pool1": (56, 64, 0, 0),
  "inception2": (56, 192, 114_688, 359.7),
  "pool2": (28, 192, 0, 0),
  "3a": (28, 256, 163_328, 128.0),
  "3b": (28, 320, 227_328, 178.2),
  "3c": (14, 640, 397_312, 108.0),
  "4a": (14, 640, 544_768, 106.8),
  "4b": (14, 640, 594_432, 116.5),
  "4c": (14, 640, 653_312, 128.0),
  "4d": (14, 640, 721_408, 141.4),
  "4e": (7, 1_024, 716_800, 56.2),
  "5a": (7, 1_024, 1_587_200, 77.8),
  "5b": (7, 1_024, 1_587_200, 77.8),
}


def abstract(name, **options):
  """The net and its parameters as shapes: nothing is computed."""
  side = options.pop("side", None) or PUBLISHED[name][0]
  net = functional.build(
    name, embedding_dim=128, image_size=(side, side), **options
  )
  return net, *jax.eval_shape(net.init, jax.random.key(0))


def weights(params):
  """Kernels alone, without biases and what BatchNorm learns."""
  return sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 1)


def cost(jaxpr):
  """Each equation of a graph, and the multiply-adds of all that is in it."""
  for equation in jaxpr.eqns:
    inner = jax.extend.core.jaxprs_in_params(equation.params)
    within = [x for graph in inner for x in tiny_nets.equations(graph)]
    yield equation, sum(map(tiny_nets.multiply_adds, [equation, *within]))


def module(spec, size, dim=128):
  kind = (
    inception.Inception
    if isinstance(spec, inception.InceptionSpec)
    else zeiler_fergus.ZeilerFergus
  )
  return kind(
    spec,
    embedding_dim=dim,
    image_size=size,
    dropout=0.0,
    norm="lrn",
    dtype=jnp.float32,
    rngs=nnx.Rngs(KEY),
  )


@functools.cache
def measured_rows(name):
  """Row -> shape of its result, weights, multiply-adds, off the real graph."""
  side = PUBLISHED[name][0]
  graph, state = nnx.split(
    nnx.eval_shape(lambda: module(facenet.NETS[name], (side, side)))
  )
  names = []

  def maps(state, image):
    rows = list(nnx.merge(graph, state).maps(image))
    names[:] = [row for row, _ in rows]
    return [x for _, x in rows]

  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  jaxpr = jax.make_jaxpr(maps)(state, image).jaxpr
  params = nnx.to_pure_dict(state)
  owners = {**params, **params.get("convs", {}), **params.get("blocks", {})}
  owners["inception2"] = [owners.get("conv2_reduce"), owners.get("conv2")]
  table, spent = {}, 0
  for equation, multiply_adds in cost(jaxpr):
    spent += multiply_adds
    if equation.outvars[0] in jaxpr.outvars:
      row = names[jaxpr.outvars.index(equation.outvars[0])]
      shape = equation.outvars[0].aval.shape
      table[row] = shape, weights(owners.get(row, {})), spent
      spent = 0
  return table


@pytest.mark.parametrize("row", NN1_ROWS)
def test_rows_of_table_1(row):
  check_row(measured_rows("nn1"), NN1_ROWS, row)


@pytest.mark.parametrize("row", NN2_ROWS)
def test_rows_of_table_2(row):
  check_row(measured_rows("nn2"), NN2_ROWS, row)


def check_row(measured, published, row):
  assert list(measured) == list(published)
  side, channels, count, millions = published[row]
  shape, actual_count, multiply_adds = measured[row]
  assert shape == (1, side, side, channels)
  assert actual_count == count
  assert multiply_adds / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
  _, count, multiply_adds = PUBLISHED[name]
  net, params, stats = abstract(name, norm="lrn")
  assert net.multiply_adds == multiply_adds
  assert weights(params) == count
  assert stats == {}  # nothing runs along: all of it is learnt


@pytest.mark.parametrize("name", OPENFACE)
def test_sizes_of_the_public_ports(name):
  _, params, _ = abstract(name, norm="batch")
  assert functional.count(params) == OPENFACE[name]


def test_batch_norm_follows_every_convolution():
  _, params, stats = abstract("nn1", norm="batch")
  channels = sum(row[1] for name, row in NN1_ROWS.items() if "conv" in name)
  assert functional.count(stats) == 2 * channels
  assert functional.count(params) == 140_006_592 + 19_072 + 2 * channels


def test_linear_layers_of_table_1():
  _, params, _ = abstract("nn1", norm="lrn")
  kernels = {
    row: params[row]["linear"]["kernel"].shape
    for row in ("fc1", "fc2", "embedding")
  }
  assert kernels == {
    "fc1": (7 * 7 * 256, 2 * 32 * 128),
    "fc2": (32 * 128, 2 * 32 * 128),
    "embedding": (32 * 128, 128),
  }
  biases = functional.count(params) - weights(params)
  assert biases == 19_072


@pytest.mark.parametrize("name", facenet.NETS)
def test_multiply_adds_are_those_of_the_graph(name):
  side = PUBLISHED[name][0] if name in PUBLISHED else 48
  net, params, stats = abstract(name, side=side, norm="lrn")

  def forward(params, images):
    return net.apply(params, stats, images, train=False)[0]

  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
  jaxpr = jax.make_jaxpr(forward)(params, images).jaxpr
  assert sum(spent for _, spent in cost(jaxpr)) == net.multiply_adds


def test_small_net_costs_no_more_than_the_small_residual_net():
  slim, residual = (
    functional.build(name, embedding_dim=128, image_size=(48, 48))
    for name in ("inception_slim", "iresnet10_slim")
  )
  assert slim.multiply_adds < residual.multiply_adds


def test_other_image_sizes_round_up():
  net, params, stats = abstract("inception_slim", side=50, norm="batch")
  images = jax.ShapeDtypeStruct((2, 50, 50, 3), jnp.uint8)
  embeddings, _ = jax.eval_shape(
    lambda p, s, x: net.apply(p, s, x, train=True), params, stats, images
  )
  assert embeddings.shape == (2, 128) and embeddings.dtype == jnp.float32


SMALL = {
  "inception": inception.InceptionSpec(
    {
      "3b": inception.BlockSpec(4, (4, 8), (2, 4), "l2", 4),
      "3c": inception.BlockSpec(0, (4, 8), (2, 4), "max", 0, stride=2),
    },
    stem=(8, 8, 8),
  ),
  "zeiler_fergus": zeiler_fergus.ZeilerFergusSpec(
    (zeiler_fergus.Conv("conv1", 8, 7, 2), "pool1", "rnorm1"),
    hidden=6,
    image_size=(32, 32),
  ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_published_norm_has_finite_gradients(kind):
  net = nnx.jit(lambda: module(SMALL[kind], (32, 32), dim=4))()
  graph, params = nnx.split(net)

  @jax.jit
  def step(params, images):
    def loss(params):
      embeddings = nnx.merge(graph, params)(images)
      return embeddings[:, 0].sum(), embeddings

    return jax.value_and_grad(loss, has_aux=True)(params)

  pixels = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3))
  for images in (jnp.zeros((2, 32, 32, 3)), jnp.asarray(pixels, jnp.float32)):
    (_, embeddings), gradient = step(params, images)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
  np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "size", "message"),
  [
    ("nn1", (224, 224), "net 'nn1'.*takes 220x220 only"),
    ("nn3", (160, 96), "net 'nn3'.*takes 160x160 only"),
    ("nn4", (31, 96), "net 'nn4'.*at least 32"),
    ("iresnet18", (100, 112), "net 'iresnet18'.*multiples of 16"),
    ("nn5", (96, 96), "'nn5' is unknown.*nn4_small2"),
  ],
)
def test_image_sizes_that_a_net_does_not_take(name, size, message):
  with pytest.raises(ValueError, match=message):
    functional.check_image_size(name, size)
  with pytest.raises(ValueError, match=message):
    functional.build(name, embedding_dim=8, image_size=size)


def test_image_sizes_that_a_net_takes():
  for name, (side, *_) in PUBLISHED.items():
    functional.check_image_size(name, (side, side))
  functional.check_image_size("inception_slim", (140, 116))


def test_residual_nets_have_no_local_response_norm():
  with pytest.raises(ValueError, match="'iresnet18' has no norm='lrn'"):
    functional.build(
      "iresnet18", embedding_dim=8, image_size=(32, 32), norm="lrn"
    )
