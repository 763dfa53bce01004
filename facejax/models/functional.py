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

from facejax.models import (
  batch_norm,
  layers,
  registry,
  rounded_gradients,
  torch_names,
  trunk,
)
from facejax.runtime import typing

NETS = registry.NETS

# Input normalisation of every net that is trained here: RGB,
# (x - 127.5) / 127.5.
PIXEL_MEAN = 127.5
PIXEL_SCALE = 127.5


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A net as a pair of pure functions.

  Attributes:
    name: the name it was built by.
    embedding_dim: size of the embeddings.
    image_size: (height, width) of the input.
    multiply_adds: of the convolutions, linear layers and attention, for one
      image.
    init: key -> (params, stats), nested plain dictionaries of float32.
    apply: (params, stats, images, *, train, dropout_key, before_bn) ->
      (embeddings [batch, embedding_dim] float32, stats). Images are uint8 RGB
      [batch, height, width, 3]. With `train` the BatchNorm uses the
      statistics of the batch and returns updated running ones. All that is
      dropped at random follows dropout_key; without it nothing is. With
      `before_bn` the embeddings are those before the BatchNorm that ends most
      nets, the same ones where there is none.
    torch_layers: its layers under the names of PyTorch code, see
      `torch_names`; empty where the field has no common ones.
  """

  name: str
  embedding_dim: int
  image_size: tuple[int, int]
  multiply_adds: int
  init: Callable[[typing.PRNGKey], tuple[typing.Params, typing.Params]]
  apply: Callable[..., tuple[typing.Array, typing.Params]]
  torch_layers: tuple[torch_names.Layer, ...] = ()


def check_image_size(name: str, image_size: tuple[int, int]) -> None:
  """Refuses image sizes (height, width) that a net cannot take.

  Raises:
    ValueError: with the sizes that the net takes, or if the name is unknown.
  """
  spec, family = registry.find(name)
  try:
    family.check_image_size(spec, image_size)
  except ValueError as error:
    raise ValueError(f"net {name!r}, {error}") from None


def check_name(name: str) -> None:
  """Refuses a name that no net has; imports a net of one's own.

  Raises:
    ValueError: with those that are near.
  """
  registry.find(name)


def has_lengths(name: str) -> bool:
  """Whether the lengths of a net's embeddings can tell anything.

  Not so where it ends in a normalisation, as FaceNet's nets do.

  Raises:
    ValueError: if the name is unknown.
  """
  return not registry.find(name)[1].unit_embeddings


def check_options(name: str, **options: Any) -> None:
  """Refuses options of `build` that a net does not have: norm, se and so on.

  Raises:
    ValueError: naming those nets that have them, or if the name is unknown.
  """
  registry.with_options(name, **options)


def check_batch(backbone: Backbone, batch_size: int) -> None:
  """Refuses batches, over all devices, that a net learns nothing from.

  Raises:
    ValueError: naming the nets that can be trained on single images.
  """
  if batch_size > 1:
    return
  shapes = jax.eval_shape(backbone.init, jax.random.key(0))
  shape = (int(batch_size), *backbone.image_size, 3)
  images = jax.ShapeDtypeStruct(shape, jnp.uint8)
  try:
    jax.eval_shape(
      lambda *given: backbone.apply(
        *given, train=True, dropout_key=jax.random.key(0)
      ),
      *(*shapes, images),
    )
  except batch_norm.TooFewError as error:
    able = [n for n in NETS if registry.find(n)[1].takes_one]
    lrn = [n for n in able if "lrn" in registry.find(n)[1].norms]
    raise ValueError(
      f"net {backbone.name!r}, {error}: take 2 images or more, or one of the"
      f" nets {', '.join(n for n in able if n not in lrn)}; or, with norm lrn,"
      f" {', '.join(lrn)}"
    ) from None


def build(
  name: str,
  *,
  embedding_dim: int,
  image_size: tuple[int, int],
  dropout: float = 0.0,
  norm: layers.Norm = "batch",
  se: bool = False,
  drop_path: float = 0.0,
  mask_ratio: float = 0.0,
  remat: bool = False,
  dtype: Any = jnp.float32,
  gradients: Any = jnp.float32,
  bn_group: int = 0,
  bn_frozen: bool = False,
  pixel_mean: float = PIXEL_MEAN,
  pixel_scale: float = PIXEL_SCALE,
) -> Backbone:
  """Builds a backbone by its name.

  Args:
    name: one of `NETS`, or a net of one's own (see `own`).
    embedding_dim: size of the embedding.
    image_size: (height, width) of the images.
    dropout: rate before the last linear layer, in [0, 1).
    norm: "batch" for BatchNorm; "lrn" for the local response normalisation
      that FaceNet's nets were published with, which leaves `stats` empty.
    se: squeeze-and-excitation in the blocks (iResNets).
    drop_path: rate of stochastic depth at the last block, in [0, 1); it grows
      from 0 at the first (iResNets, ViTs).
    mask_ratio: share of the tokens that training leaves out, in [0, 1) (ViTs).
    remat: compute blocks again in the backward pass, for less memory on
      accelerators (all but FaceNet's nets).
    dtype: type of the trunk's arithmetic: float32, bfloat16 or, for checks,
      float64 (with parameters and embeddings, which are float32 otherwise).
    gradients: type in which the gradients of linear layers cross between
      devices: float32, or bfloat16; see `rounded_gradients`.
    bn_group: images whose statistics BatchNorm takes together in training; 0
      for those of the whole batch.
    bn_frozen: whether training leaves BatchNorm's running statistics as they
      are, and normalises with them.
    pixel_mean: pixels enter as (x - pixel_mean) / pixel_scale; nets from
      elsewhere may have been trained with other numbers.
    pixel_scale: see there.

  Raises:
    ValueError: if the name is unknown, or the net cannot take that image size
      or has not such an option.
  """
  check_image_size(name, image_size)
  _, family = registry.find(name)
  spec = registry.with_options(
    name,
    norm=norm,
    se=se,
    drop_path=drop_path,
    mask_ratio=mask_ratio,
    remat=remat,
  )
  options: dict[str, Any] = {"norm": norm} if len(family.norms) > 1 else {}

  def create(rngs: Any) -> trunk.Net:
    net = family.module(
      spec,
      embedding_dim=embedding_dim,
      image_size=image_size,
      dropout=dropout,
      dtype=dtype,
      rngs=rngs,
      **options,
    )
    if gradients == jnp.bfloat16:
      rounded_gradients.use(net)
    if bn_group:
      batch_norm.in_groups(net, bn_group)
    if bn_frozen:
      batch_norm.freeze(net)
    return net

  abstract = nnx.eval_shape(lambda: create(_Keys(jax.random.key(0))))
  graph, *_ = nnx.split(abstract, nnx.Param, nnx.BatchStat)

  def init(key):
    _, params, stats = nnx.split(create(_Keys(key)), nnx.Param, nnx.BatchStat)
    return jax.tree.map(
      lambda leaf: leaf.astype(jnp.promote_types(dtype, jnp.float32)),
      (nnx.to_pure_dict(params), nnx.to_pure_dict(stats)),
    )

  def apply(params, stats, images, *, train, dropout_key=None, before_bn=False):
    net = nnx.merge(graph, nnx.State(params), nnx.State(stats))
    net.train() if train else net.eval()
    embeddings = net(
      normalize(images, dtype, mean=pixel_mean, scale=pixel_scale),
      dropout_key=dropout_key,
      before_bn=before_bn,
    )
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
    torch_layers=tuple(family.torch_layers(spec, image_size=image_size)),
  )


class _Keys:
  """The keys of `nnx.Rngs`, counted in Python.

  Its own counter is an array, whose update makes the time of tracing a net
  grow with the square of its depth.
  """

  def __init__(self, key: typing.PRNGKey):
    self._key, self._count = key, 0

  def params(self) -> typing.PRNGKey:
    self._count += 1
    return jax.random.fold_in(self._key, self._count - 1)


def count(params: typing.Params) -> int:
  """Number of numbers in a tree of arrays or abstract arrays.

  >>> count({"a": jnp.ones((2, 3)), "b": {"c": jnp.ones(4)}})
  10
  """
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def normalize(
  images: typing.Array,
  dtype: Any,
  *,
  mean: float = PIXEL_MEAN,
  scale: float = PIXEL_SCALE,
) -> typing.Array:
  """Maps pixels to what nets want; to [-1, 1] with the numbers of the field.

  >>> normalize(jnp.array([0, 51, 255], jnp.uint8), jnp.float32).round(3).tolist()
  [-1.0, -0.6000000238418579, 1.0]
  """
  # On the device: a byte a value crosses the bus, not four.
  wide = images.astype(jnp.promote_types(dtype, jnp.float32))
  return ((wide - mean) / scale).astype(dtype)
