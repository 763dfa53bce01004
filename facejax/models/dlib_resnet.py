"""dlib's net for faces: a ResNet of 29 layers, half as many channels as usual.

A convolution of 7x7 and a pooling lead in; then units of two convolutions of
3x3. Where a unit halves the map it takes the mean of 2x2 windows beside it, and
what is missing at the end of an axis, channels or pixels, counts as 0. There is
no BatchNorm: a factor and a term for each channel stand in its place, which is
what it becomes once trained. The mean of the last map goes through one linear
layer without a bias.

References:
  King, Dlib-ml: A Machine Learning Toolkit, 2009, and its example
    dnn_face_recognition (2017), which the released weights follow.
  He et al., Deep Residual Learning for Image Recognition, 2015.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from facejax.models import layers, pooling, trunk
from facejax.runtime import typing

IMAGE_SIZE = (150, 150)
_LEAST = 103


@dataclasses.dataclass(frozen=True)
class DlibResNetSpec:
  """Size of one member of the family.

  Attributes:
    units: residual units of each stage; each but the first stage begins with
      one that halves the map.
    widths: channels of each stage.
    remat: compute units again in the backward pass.
  """

  units: tuple[int, ...] = (3, 4, 3, 3, 1)
  widths: tuple[int, ...] = (32, 64, 128, 256, 256)
  remat: bool = False

  def rows(self) -> Iterator[tuple[int, int, int]]:
    """(channels in, channels out, stride) of every unit."""
    before = self.widths[0]
    for stage, (count, width) in enumerate(
      zip(self.units, self.widths, strict=True)
    ):
      for unit in range(count):
        yield before, width, 1 if unit or not stage else 2
        before = width


NETS = {"dlib_resnet29": DlibResNetSpec()}


class ChannelAffine(nnx.Module):
  """a x + b, a factor and a term for each channel."""

  def __init__(self, channels: int, *, rngs: nnx.Rngs):
    del rngs
    self.scale = nnx.Param(jnp.ones((channels,)))
    self.bias = nnx.Param(jnp.zeros((channels,)))

  def __call__(self, x: typing.Array) -> typing.Array:
    shape = (1,) * (x.ndim - 1) + (-1,)
    scale, bias = (
      learnt[...].astype(x.dtype).reshape(shape)
      for learnt in (self.scale, self.bias)
    )
    return x * scale + bias


class HalvingUnit(nnx.Module):
  """ReLU(shortcut(x) + affine(conv3x3(ReLU(affine(conv3x3/stride(x))))))."""

  def __init__(
    self,
    in_channels: int,
    channels: int,
    stride: int,
    *,
    rngs: nnx.Rngs,
    dtype: Any,
  ):
    options: Any = {
      "kernel_init": nnx.initializers.he_normal(),
      "rngs": rngs,
      "dtype": dtype,
    }
    self.stride = stride
    self.conv1 = layers.conv(
      in_channels, channels, 3, stride=stride, pad=stride == 1, **options
    )
    self.affine1 = ChannelAffine(channels, rngs=rngs)
    self.conv2 = layers.conv(channels, channels, 3, **options)
    self.affine2 = ChannelAffine(channels, rngs=rngs)

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    del key
    y = nnx.relu(self.affine1(self.conv1(x)))
    y = self.affine2(self.conv2(y))
    shortcut = x if self.stride == 1 else pooling.mean_pool(x)
    return nnx.relu(_sum(y, shortcut))


def _sum(a: typing.Array, b: typing.Array) -> typing.Array:
  """a + b, the smaller one with zeros behind its last rows, columns, channels."""
  shape = tuple(map(max, a.shape, b.shape))

  def filled(x: typing.Array) -> typing.Array:
    if x.shape == shape:
      return x
    widths = [(0, n - m) for n, m in zip(shape, x.shape, strict=True)]
    return jnp.pad(x, widths)

  return filled(a) + filled(b)


class DlibResNet(trunk.Net):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: units and widths; `NETS` holds the published one.
    embedding_dim: size of the embedding, published with 128.
    image_size: (height, width), see `check_image_size`; published at 150x150.
    dropout: rate before the linear layer.
    dtype: type of the trunk's arithmetic; the linear layer and the embeddings
      are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if a side of the image is too small.
  """

  def __init__(
    self,
    spec: DlibResNetSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    width = spec.widths[0]
    self.stem = layers.conv(
      3,
      width,
      7,
      stride=2,
      pad=False,
      kernel_init=nnx.initializers.he_normal(),
      rngs=rngs,
      dtype=dtype,
    )
    self.affine = ChannelAffine(width, rngs=rngs)
    self.blocks = nnx.List(
      HalvingUnit(*row, rngs=rngs, dtype=dtype) for row in spec.rows()
    )
    self.remat = spec.remat
    self.dropout = nnx.Dropout(dropout)
    self.linear = nnx.Linear(
      spec.widths[-1], embedding_dim, use_bias=False, rngs=rngs
    )
    self.embedding_bn = None

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = nnx.relu(self.affine(self.stem(images)))
    x = pooling.max_pool(x, stride=2, pad=False)
    x = trunk.run(self.blocks, x, remat=self.remat)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    return self.linear(x)


def _whole(size: int, window: int) -> int:
  """Places of a window of that size with stride 2, none of them over an edge."""
  return (size - window) // 2 + 1


def _after(size: int, stride: int) -> int:
  """A side of the map behind a unit: that of the larger of its two ways."""
  return size if stride == 1 else max(_whole(size, 3), _whole(size, 2))


def check_image_size(spec: DlibResNetSpec, image_size: tuple[int, int]) -> None:
  """Refuses images that leave no whole window for the last unit.

  Raises:
    ValueError: if a side is below 103.
  """
  del spec  # the same for all members
  pooling.check_sides(image_size, _LEAST, published="150x150")


def multiply_adds(
  spec: DlibResNetSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and the linear layer for one image.

  >>> spec = NETS["dlib_resnet29"]
  >>> multiply_adds(spec, embedding_dim=128, image_size=(150, 150))
  270854144
  """
  sides = [_whole(side, 7) for side in image_size]
  total = math.prod(sides) * 49 * 3 * spec.widths[0]
  sides = [_whole(side, 3) for side in sides]
  for before, width, stride in spec.rows():
    # Both convolutions are of the map that the first one leaves.
    inner = sides if stride == 1 else [_whole(side, 3) for side in sides]
    total += math.prod(inner) * 9 * width * (before + width)
    sides = [_after(side, stride) for side in sides]
  return total + spec.widths[-1] * embedding_dim
