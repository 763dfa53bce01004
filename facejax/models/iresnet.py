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
  Hu, Shen, Sun, Squeeze-and-Excitation Networks, 2018 (`se`).
  Huang et al., Deep Networks with Stochastic Depth, 2016 (`drop_path`).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.models import batch_norm, layers, torch_names, trunk
from facejax.runtime import typing

# Channels of a map for each that its squeeze-and-excitation keeps.
_REDUCTION = 16


@dataclasses.dataclass(frozen=True)
class IResNetSpec:
  """Size of one member of the family.

  Attributes:
    blocks: residual blocks in each of the four stages.
    widths: channels of each stage; the stem has those of the first.
    se: squeeze-and-excitation at the end of every block.
    drop_path: rate of stochastic depth at the last block, 0 at the first.
    remat: compute blocks again in the backward pass.
    pick: a block that halves the map but keeps its channels takes every
      second pixel as its shortcut, in place of a convolution and BatchNorm.
    inner_bn: BatchNorm before the PReLU of a block.
    embedding_scale: the BatchNorm of the embeddings has a learnt scale.
    embedding_bias: and a learnt bias.
  """

  blocks: tuple[int, int, int, int]
  widths: tuple[int, int, int, int] = (64, 128, 256, 512)
  se: bool = False
  drop_path: float = 0.0
  remat: bool = False
  pick: bool = False
  inner_bn: bool = True
  embedding_scale: bool = False
  embedding_bias: bool = True

  def projects(self, before: int, after: int, stride: int) -> bool:
    """Whether a block has a convolution and BatchNorm in its shortcut."""
    return before != after or (stride != 1 and not self.pick)

  def rows(self) -> Iterator[tuple[str, int, int, int]]:
    """Each block: its name in torch, channels before and after, stride."""
    channels = self.widths[0]
    stages = zip(self.widths, self.blocks, strict=True)
    for stage, (width, count) in enumerate(stages, start=1):
      for i in range(count):
        yield f"layer{stage}.{i}", channels, width, 1 if i else 2
        channels = width


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


class SqueezeExcite(nnx.Module):
  """Weighs channels by what their means say: x sigmoid(W2 relu(W1 mean x))."""

  def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: Any):
    squeezed = channels // _REDUCTION
    options = {"rngs": rngs, "dtype": dtype}
    self.fc1 = layers.conv(channels, squeezed, 1, **options)
    self.fc2 = layers.conv(squeezed, channels, 1, **options)

  def __call__(self, x: typing.Array) -> typing.Array:
    mean = x.mean(axis=(1, 2), keepdims=True)
    return x * nnx.sigmoid(self.fc2(nnx.relu(self.fc1(mean))))


class ResidualBlock(nnx.Module):
  """BN - conv3x3 - BN - PReLU - conv3x3/stride - BN, plus the shortcut."""

  def __init__(
    self,
    spec: IResNetSpec,
    in_channels: int,
    channels: int,
    stride: int,
    *,
    drop_rate: float = 0.0,
    rngs: nnx.Rngs,
    dtype: Any,
  ):
    options = {"rngs": rngs, "dtype": dtype}
    self.bn1 = batch_norm.BatchNorm(in_channels, **options)
    self.conv1 = layers.conv(in_channels, channels, 3, **options)
    self.bn2 = (
      batch_norm.BatchNorm(channels, **options) if spec.inner_bn else None
    )
    self.prelu = layers.PReLU(channels, rngs=rngs)
    self.conv2 = layers.conv(channels, channels, 3, stride=stride, **options)
    self.bn3 = batch_norm.BatchNorm(channels, **options)
    self.stride = stride
    self.project = spec.projects(in_channels, channels, stride)
    if self.project:
      self.shortcut_conv = layers.conv(
        in_channels, channels, 1, stride=stride, **options
      )
      self.shortcut_bn = batch_norm.BatchNorm(channels, **options)
    self.se = SqueezeExcite(channels, **options) if spec.se else None
    self.drop_rate = drop_rate

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    y = self.conv1(self.bn1(x))
    y = y if self.bn2 is None else self.bn2(y)
    y = self.bn3(self.conv2(self.prelu(y)))
    if self.se is not None:
      y = self.se(y)
    if self.project:
      x = self.shortcut_bn(self.shortcut_conv(x))
    elif self.stride != 1:
      for axis in (1, 2):  # indices would make a gather of it
        x = jax.lax.slice_in_dim(x, 0, x.shape[axis], self.stride, axis)
    return trunk.drop_path(y, rate=self.drop_rate, key=key) + x


class IResNet(trunk.Net):
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
    self.stem_bn = batch_norm.BatchNorm(spec.widths[0], rngs=rngs, dtype=dtype)
    self.stem_prelu = layers.PReLU(spec.widths[0], rngs=rngs)
    rates = trunk.drop_rates(spec.drop_path, sum(spec.blocks))
    self.blocks = nnx.List(
      ResidualBlock(spec, *row, drop_rate=rate, rngs=rngs, dtype=dtype)
      for rate, (_, *row) in zip(rates, spec.rows(), strict=True)
    )
    self.remat, channels = spec.remat, spec.widths[-1]
    self.head_bn = batch_norm.BatchNorm(channels, rngs=rngs, dtype=dtype)
    self.dropout = nnx.Dropout(dropout)
    flat = math.prod(side // 16 for side in image_size) * channels
    # torch's default start of a linear layer, as published.
    bound = 1 / math.sqrt(flat)
    uniform = layers.symmetric_uniform(bound)
    self.linear = nnx.Linear(
      flat, embedding_dim, kernel_init=uniform, bias_init=uniform, rngs=rngs
    )
    self.embedding_bn = batch_norm.BatchNorm(
      embedding_dim,
      rngs=rngs,
      scale=spec.embedding_scale,
      bias=spec.embedding_bias,
    )

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = self.stem_prelu(self.stem_bn(self.stem(images)))
    x = trunk.run(self.blocks, x, key=dropout_key, remat=self.remat)
    x = self.head_bn(x)
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    x = x.reshape(x.shape[0], -1)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return self.linear(x)


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
  for _, before, channels, stride in spec.rows():
    total += pixels * 9 * before * channels
    if stride == 2:
      pixels //= 4
    if spec.projects(before, channels, stride):
      total += pixels * before * channels
    total += pixels * 9 * channels**2
    if spec.se:
      total += 2 * channels * (channels // _REDUCTION)
  return total + pixels * channels * embedding_dim


def torch_layers(
  spec: IResNetSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under their names in arcface_torch and ours.

  Its nets have no squeeze-and-excitation; `se.fc1` and `se.fc2` are 1x1
  convolutions without bias, as in the IR-SE nets of other PyTorch code.
  """
  layer = torch_names.Layer
  yield layer("conv1", ("stem",))
  yield layer("bn1", ("stem_bn",))
  yield layer("prelu", ("stem_prelu",))
  for i, (torch, before, channels, stride) in enumerate(spec.rows()):
    for name in ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"):
      yield layer(f"{torch}.{name}", ("blocks", i, name))
    if stride != 1 or before != channels:
      yield layer(f"{torch}.downsample.0", ("blocks", i, "shortcut_conv"))
      yield layer(f"{torch}.downsample.1", ("blocks", i, "shortcut_bn"))
    if spec.se:
      for name in ("fc1", "fc2"):
        yield layer(f"{torch}.se.{name}", ("blocks", i, "se", name))
  yield layer("bn2", ("head_bn",))
  height, width = image_size
  yield layer("fc", ("linear",), flat=(height // 16, width // 16))
  yield layer("features", ("embedding_bn",))
