"""Inception nets with L2 pooling and embeddings of unit length.

References:
  Szegedy et al., Going Deeper with Convolutions, 2014.
  Schroff, Kalenichenko, Philbin, FaceNet: A Unified Embedding for Face
    Recognition and Clustering, 2015.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from facejax.models import layers, pooling, trunk
from facejax.runtime import typing

# The smallest side that five halvings leave a pixel of.
MIN_SIDE = 32


@dataclasses.dataclass(frozen=True)
class BlockSpec:
  """One inception block: four branches side by side.

  Attributes:
    one: channels of the 1x1 branch; 0 for none.
    three: channels of the 3x3 branch: after the reduction, at the end.
    five: likewise of the 5x5 branch; None for none.
    pool: how the fourth branch pools.
    project: channels of the 1x1 convolution after it; 0 for none.
    stride: of the last layer of each branch.
  """

  one: int
  three: tuple[int, int]
  five: tuple[int, int] | None
  pool: Literal["max", "l2"]
  project: int
  stride: Literal[1, 2] = 1

  def channels(self, in_channels: int) -> int:
    """Of the result."""
    five = self.five[1] if self.five else 0
    return self.one + self.three[1] + five + (self.project or in_channels)


@dataclasses.dataclass(frozen=True)
class InceptionSpec:
  """The rows of the table.

  Attributes:
    blocks: by name.
    stem: channels of conv1, and of "inception(2)": reduction, end.
    stem_kernel: width of the windows of conv1.
    stem_pool: whether max pooling follows conv1.
    image_size: the only (height, width) it takes, if there is but one.
  """

  blocks: dict[str, BlockSpec]
  stem: tuple[int, int, int] = (64, 64, 192)
  stem_kernel: int = 7
  stem_pool: bool = True
  image_size: tuple[int, int] | None = None


class InceptionBlock(nnx.Module):
  """The branches of an inception block, concatenated in the table's order."""

  def __init__(
    self,
    in_channels: int,
    spec: BlockSpec,
    *,
    norm: layers.Norm,
    rngs: nnx.Rngs,
    dtype: Any,
  ):
    def unit(inputs, channels, kernel=1, stride=1):
      return layers.ConvUnit(
        inputs,
        channels,
        kernel,
        stride=stride,
        norm=norm,
        rngs=rngs,
        dtype=dtype,
      )

    convs = {}
    if spec.one:
      convs["one"] = unit(in_channels, spec.one)
    convs["three_reduce"] = unit(in_channels, spec.three[0])
    convs["three"] = unit(*spec.three, 3, spec.stride)
    if spec.five:
      convs["five_reduce"] = unit(in_channels, spec.five[0])
      convs["five"] = unit(*spec.five, 5, spec.stride)
    if spec.project:
      convs["project"] = unit(in_channels, spec.project)
    self.convs = nnx.Dict(convs)
    self.pool, self.stride = spec.pool, spec.stride

  def __call__(self, x: typing.Array) -> typing.Array:
    convs = self.convs
    pool = pooling.max_pool if self.pool == "max" else pooling.l2_pool
    pooled = pool(x, stride=self.stride)
    branches = [
      *([convs["one"](x)] if "one" in convs else []),
      convs["three"](convs["three_reduce"](x)),
      *([convs["five"](convs["five_reduce"](x))] if "five" in convs else []),
      convs["project"](pooled) if "project" in convs else pooled,
    ]
    return jnp.concatenate(branches, axis=-1)


class Inception(trunk.Net):
  """Images [batch, height, width, 3] to unit vectors [batch, dim] in float32.

  Args:
    spec: stem and blocks; `facenet.NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width), see `check_image_size`.
    dropout: rate before the linear layer.
    norm: "lrn" in the stem, as published; "batch" puts BatchNorm after every
      convolution in its place.
    dtype: type of the trunk's arithmetic; BatchNorm statistics, the linear
      layer and the embeddings are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if the net does not take that image size.
  """

  def __init__(
    self,
    spec: InceptionSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    norm: layers.Norm,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    options: Any = {"norm": norm, "rngs": rngs, "dtype": dtype}
    self.use_lrn, self.stem_pool = norm == "lrn", spec.stem_pool
    first, reduction, channels = spec.stem
    self.conv1 = layers.ConvUnit(
      3, first, spec.stem_kernel, stride=2, **options
    )
    self.conv2_reduce = layers.ConvUnit(first, reduction, 1, **options)
    self.conv2 = layers.ConvUnit(reduction, channels, 3, **options)
    blocks = {}
    for name, block in spec.blocks.items():
      blocks[name] = InceptionBlock(channels, block, **options)
      channels = block.channels(channels)
    self.names = tuple(blocks)
    self.blocks = nnx.Dict(blocks)
    self.embedding = layers.UnitEmbedding(
      channels, embedding_dim, dropout=dropout, rngs=rngs
    )
    self.embedding_bn = None

  def maps(self, images: typing.Array) -> Iterator[tuple[str, typing.Array]]:
    """The name and result of every row before the average, in turn."""
    x = self.conv1(images)
    yield "conv1", x
    x = pooling.max_pool(x, stride=2) if self.stem_pool else x
    x = pooling.local_response_norm(x) if self.use_lrn else x
    yield "pool1", x
    x = self.conv2(self.conv2_reduce(x))
    yield "inception2", x
    x = pooling.local_response_norm(x) if self.use_lrn else x
    x = pooling.max_pool(x, stride=2)
    yield "pool2", x
    for name in self.names:
      x = self.blocks[name](x)
      yield name, x

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    *_, (_, x) = self.maps(images)
    x = x.mean(axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
    return self.embedding(x, dropout_key=dropout_key)


def check_image_size(spec: InceptionSpec, image_size: tuple[int, int]) -> None:
  """Refuses images that are not of the published size, or too small.

  Raises:
    ValueError: with the sizes that the net takes.
  """
  if spec.image_size is None:
    if min(image_size) < MIN_SIDE:
      raise ValueError(
        f"image_size {tuple(image_size)}: both sides must be at least"
        f" {MIN_SIDE} for this net"
      )
  elif tuple(image_size) != spec.image_size:
    height, width = spec.image_size
    raise ValueError(
      f"image_size {tuple(image_size)}: this net takes {height}x{width} only"
    )


def multiply_adds(
  spec: InceptionSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layer for one image.

  >>> from facejax.models import facenet
  >>> nn2 = facenet.NETS["nn2"]
  >>> multiply_adds(nn2, embedding_dim=128, image_size=(224, 224))
  1596530688
  """
  first, reduction, channels = spec.stem
  size = pooling.reduced(image_size, 2)
  total = math.prod(size) * spec.stem_kernel**2 * 3 * first
  size = pooling.reduced(size, 2) if spec.stem_pool else size
  total += math.prod(size) * reduction * (first + 9 * channels)
  size = pooling.reduced(size, 2)
  for block in spec.blocks.values():
    before = math.prod(size)
    size = pooling.reduced(size, block.stride)
    after = math.prod(size)
    five = block.five or (0, 0)
    total += before * channels * (block.one + block.three[0] + five[0])
    total += after * 9 * math.prod(block.three)
    total += after * 25 * math.prod(five)
    total += after * channels * block.project
    channels = block.channels(channels)
  return total + channels * embedding_dim
