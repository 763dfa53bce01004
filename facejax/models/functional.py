"""Backbones as pure functions over plain dictionaries of arrays.

Modules are defined with NNX; the trainer sees `init` and `apply` only, so that
the train state is a tree of arrays that any tool can shard, save and load.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax import typing
from facejax.models import facenet, inception, iresnet, layers, zeiler_fergus

_SPECS: dict[str, Any] = {**iresnet.NETS, **facenet.NETS}

NETS = tuple(_SPECS)

# Input normalisation of every net here: RGB, (x - 127.5) / 127.5.
PIXEL_MEAN = 127.5
PIXEL_SCALE = 127.5


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A net as a pair of pure functions.

  Attributes:
    name: the name it was built by.
    embedding_dim: size of the embeddings.
    image_size: (height, width) of the input.
    multiply_adds: of the convolutions and linear layers, for one image.
    init: key -> (params, stats), nested plain dictionaries of float32.
    apply: (params, stats, images, *, train, dropout_key) ->
      (embeddings [batch, embedding_dim] float32, stats). Images are uint8 RGB
      [batch, height, width, 3]. With `train` the BatchNorm uses the
      statistics of the batch and returns updated running ones.
  """

  name: str
  embedding_dim: int
  image_size: tuple[int, int]
  multiply_adds: int
  init: Callable[[typing.PRNGKey], tuple[typing.Params, typing.Params]]
  apply: Callable[..., tuple[typing.Array, typing.Params]]


@dataclasses.dataclass(frozen=True)
class _Family:
  """What the nets of one architecture share; all take their spec first.

  Attributes:
    module: (spec, *, embedding_dim, image_size, dropout, norm, dtype, rngs) ->
      the nnx module.
    multiply_adds: (spec, *, embedding_dim, image_size) -> their number.
    check_image_size: (spec, image_size), raises ValueError.
    norms: the values of `norm` that it has.
  """

  module: Callable[..., nnx.Module]
  multiply_adds: Callable[..., int]
  check_image_size: Callable[[Any, tuple[int, int]], None]
  norms: tuple[layers.Norm, ...] = ("batch", "lrn")


def _iresnet(spec, *, norm, **options) -> nnx.Module:
  del norm  # it has but one
  return iresnet.IResNet(spec, **options)


_FAMILIES = {
  iresnet.IResNetSpec: _Family(
    _iresnet, iresnet.multiply_adds, iresnet.check_image_size, ("batch",)
  ),
  inception.InceptionSpec: _Family(
    inception.Inception, inception.multiply_adds, inception.check_image_size
  ),
  zeiler_fergus.ZeilerFergusSpec: _Family(
    zeiler_fergus.ZeilerFergus,
    zeiler_fergus.multiply_adds,
    zeiler_fergus.check_image_size,
  ),
}


def check_image_size(name: str, image_size: tuple[int, int]) -> None:
  """Refuses image sizes (height, width) that a net cannot take.

  Raises:
    ValueError: with the sizes that the net takes, or if the name is unknown.
  """
  spec, family = _find(name)
  try:
    family.check_image_size(spec, image_size)
  except ValueError as error:
    raise ValueError(f"net {name!r}, {error}") from None


def build(
  name: str,
  *,
  embedding_dim: int,
  image_size: tuple[int, int],
  dropout: float = 0.0,
  norm: layers.Norm = "batch",
  dtype: Any = jnp.float32,
) -> Backbone:
  """Builds a backbone by its name.

  Args:
    name: one of `NETS`.
    embedding_dim: size of the embedding.
    image_size: (height, width) of the images.
    dropout: rate before the last linear layer, in [0, 1).
    norm: "batch" for BatchNorm; "lrn" for the local response normalisation
      that FaceNet's nets were published with, which leaves `stats` empty.
    dtype: type of the trunk's arithmetic: float32, bfloat16 or, for checks,
      float64 (with parameters and embeddings, which are float32 otherwise).

  Raises:
    ValueError: if the name is unknown, or the net cannot take that image size
      or has no such norm.
  """
  check_image_size(name, image_size)
  spec, family = _find(name)
  if norm not in family.norms:
    raise ValueError(
      f"net {name!r} has no norm={norm!r}; choose one of {list(family.norms)}"
    )

  def create(rngs: nnx.Rngs) -> nnx.Module:
    return family.module(
      spec,
      embedding_dim=embedding_dim,
      image_size=image_size,
      dropout=dropout,
      norm=norm,
      dtype=dtype,
      rngs=rngs,
    )

  abstract = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
  graph, *_ = nnx.split(abstract, nnx.Param, nnx.BatchStat)

  def init(key):
    _, params, stats = nnx.split(
      create(nnx.Rngs(key)), nnx.Param, nnx.BatchStat
    )
    return jax.tree.map(
      lambda leaf: leaf.astype(jnp.promote_types(dtype, jnp.float32)),
      (nnx.to_pure_dict(params), nnx.to_pure_dict(stats)),
    )

  def apply(params, stats, images, *, train, dropout_key=None):
    net = nnx.merge(graph, nnx.State(params), nnx.State(stats))
    net.train() if train else net.eval()
    embeddings = net(normalize(images, dtype), dropout_key=dropout_key)
    return embeddings, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat))

  return Backbone(
    name=name,
    embedding_dim=embedding_dim,
    image_size=image_size,
    multiply_adds=family.multiply_adds(
      spec, embedding_dim=embedding_dim, image_size=image_size
    ),
    init=init,
    apply=apply,
  )


def _find(name: str) -> tuple[Any, _Family]:
  if name not in _SPECS:
    raise ValueError(f"net {name!r} is unknown; choose one of {list(NETS)}")
  spec = _SPECS[name]
  return spec, _FAMILIES[type(spec)]


def count(params: typing.Params) -> int:
  """Number of numbers in a tree of arrays or abstract arrays.

  >>> count({"a": jnp.ones((2, 3)), "b": {"c": jnp.ones(4)}})
  10
  """
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def normalize(images: typing.Array, dtype: Any) -> typing.Array:
  """Maps pixels to [-1, 1], as the field's nets want them: (x - 127.5) / 127.5.

  >>> normalize(jnp.array([0, 51, 255], jnp.uint8), jnp.float32).round(3).tolist()
  [-1.0, -0.6000000238418579, 1.0]
  """
  # On the device: a byte a value crosses the bus, not four.
  wide = images.astype(jnp.promote_types(dtype, jnp.float32))
  return ((wide - PIXEL_MEAN) / PIXEL_SCALE).astype(dtype)
