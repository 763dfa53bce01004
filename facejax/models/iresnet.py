"""iResNet: the residual nets of the ArcFace line of work.

The stem keeps the full resolution (no pooling), each of the four stages starts
with a stride-2 block, and nothing follows the addition of a block. The head
("E") flattens the last map: BatchNorm, dropout, linear layer, BatchNorm whose
scale is fixed at 1.

References:
  Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
    Recognition, 2019 (the nets and the head "E").
  Duta et al., Improved Residual Networks for Image and Video Recognition,
    2020.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax import typing
from facejax.models import layers


@dataclasses.dataclass(frozen=True)
class IResNetSpec:
  """Size of one member of the family.

  Attributes:
    blocks: residual blocks in each of the four stages.
    widths: channels of each stage; the stem has those of the first.
  """

  blocks: tuple[int, int, int, int]
  widths: tuple[int, int, int, int] = (64, 128, 256, 512)


NETS = {
  # A member for CPUs: few channels where the map is large, because XLA's
  # convolutions for CPUs reach twice the arithmetic rate on wide small maps.
  "iresnet10_slim": IResNetSpec((1, 1, 1, 1), (16, 64, 128, 256)),
  "iresnet18": IResNetSpec((2, 2, 2, 2)),
  "iresnet34": IResNetSpec((3, 4, 6, 3)),
  "iresnet50": IResNetSpec((3, 4, 14, 3)),
  "iresnet100": IResNetSpec((3, 13, 30, 3)),
  "iresnet200": IResNetSpec((6, 26, 60, 6)),
}


class Block(nnx.Module):
  """BN - conv3x3 - BN - PReLU - conv3x3/stride - BN, plus the shortcut."""

  def __init__(
    self,
    in_channels: int,
    channels: int,
    *,
    stride: int,
    rngs: nnx.Rngs,
    dtype: Any,
  ):
    options = {"rngs": rngs, "dtype": dtype}
    self.bn1 = layers.batch_norm(in_channels, **options)
    self.conv1 = layers.conv(in_channels, channels, 3, **options)
    self.bn2 = layers.batch_norm(channels, **options)
    self.prelu = layers.PReLU(channels, rngs=rngs)
    self.conv2 = layers.conv(channels, channels, 3, stride=stride, **options)
    self.bn3 = layers.batch_norm(channels, **options)
    self.project = stride != 1 or in_channels != channels
    if self.project:
      self.shortcut_conv = layers.conv(
        in_channels, channels, 1, stride=stride, **options
      )
      self.shortcut_bn = layers.batch_norm(channels, **options)

  def __call__(self, x: typing.Array) -> typing.Array:
    y = self.conv1(self.bn1(x))
    y = self.conv2(self.prelu(self.bn2(y)))
    if self.project:
      x = self.shortcut_bn(self.shortcut_conv(x))
    return self.bn3(y) + x


class IResNet(nnx.Module):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: blocks and widths; `NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width), multiples of 16.
    dropout: rate before the linear layer.
    dtype: type of the trunk's arithmetic; BatchNorm statistics, the linear
      layer and the embeddings are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if a side of the image is not a positive multiple of 16.
  """

  def __init__(
    self,
    spec: IResNetSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    self.stem = layers.conv(3, spec.widths[0], 3, rngs=rngs, dtype=dtype)
    self.stem_bn = layers.batch_norm(spec.widths[0], rngs=rngs, dtype=dtype)
    self.stem_prelu = layers.PReLU(spec.widths[0], rngs=rngs)
    blocks, channels = [], spec.widths[0]
    for width, count in zip(spec.widths, spec.blocks, strict=True):
      for i in range(count):
        stride = 2 if i == 0 else 1
        blocks.append(
          Block(channels, width, stride=stride, rngs=rngs, dtype=dtype)
        )
        channels = width
    self.blocks = nnx.List(blocks)
    self.head_bn = layers.batch_norm(channels, rngs=rngs, dtype=dtype)
    self.dropout = nnx.Dropout(dropout)
    flat = math.prod(side // 16 for side in image_size) * channels
    # torch's default start of a linear layer, as published.
    bound = 1 / math.sqrt(flat)
    uniform = _symmetric_uniform(bound)
    self.linear = nnx.Linear(
      flat, embedding_dim, kernel_init=uniform, bias_init=uniform, rngs=rngs
    )
    self.embedding_bn = layers.batch_norm(embedding_dim, rngs=rngs, scale=False)

  def __call__(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None = None
  ) -> typing.Array:
    x = self.stem_prelu(self.stem_bn(self.stem(images)))
    for block in self.blocks:
      x = block(x)
    x = self.head_bn(x)
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    x = x.reshape(x.shape[0], -1)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return self.embedding_bn(self.linear(x))


def _symmetric_uniform(bound: float):
  def init(key, shape, dtype=jnp.float32, **_):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def check_image_size(spec: IResNetSpec, image_size: tuple[int, int]) -> None:
  """Refuses images that cannot be halved four times.

  Raises:
    ValueError: if a side is not a positive multiple of 16.
  """
  del spec  # the same for all members
  if any(side < 16 or side % 16 for side in image_size):
    raise ValueError(
      f"image_size {tuple(image_size)}: iResNet halves the map four times,"
      " so both sides must be multiples of 16 (as in 112x112 or 64x64)"
    )


def multiply_adds(
  spec: IResNetSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layer for one image.

  >>> multiply_adds(NETS["iresnet18"], embedding_dim=512, image_size=(112, 112))
  2609954816
  """
  pixels, channels = math.prod(image_size), spec.widths[0]
  total = pixels * 27 * channels
  for width, count in zip(spec.widths, spec.blocks, strict=True):
    for i in range(count):
      total += pixels * 9 * channels * width
      if i == 0:
        pixels //= 4
        total += pixels * channels * width
      total += pixels * 9 * width * width
      channels = width
  return total + pixels * channels * embedding_dim
