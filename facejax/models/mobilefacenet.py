"""MobileFaceNet: inverted residuals and a global depthwise convolution.

References:
  Chen et al., MobileFaceNets: Efficient CNNs for Accurate Real-Time Face
    Verification on Mobile Devices, 2018 (its Table 1).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from facejax.models import (
  batch_norm,
  depthwise,
  layers,
  pooling,
  torch_names,
  trunk,
)
from facejax.runtime import typing

_HEAD_CHANNELS = 512
# Every start is of this kind: normal, with variance 2 / fan-out.
_START = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclasses.dataclass(frozen=True)
class MobileFaceNetSpec:
  """Size of one member of the family.

  Attributes:
    scale: factor of the channels between blocks. Those within blocks stay,
      which makes the second layer of scaled nets a grouped convolution.
    blocks: residual blocks at each of the four resolutions; a single one at
      the first is the depthwise convolution of the paper.
    remat: compute blocks again in the backward pass.
  """

  scale: int = 1
  blocks: tuple[int, int, int, int] = (1, 4, 6, 2)
  remat: bool = False

  def rows(self) -> Iterator["Stage"]:
    """Everything between the first layer and the last map."""
    narrow, wide = 64 * self.scale, 128 * self.scale
    if self.blocks[0] == 1:
      yield Stage("layers.1", narrow, narrow, 0)
    else:
      for i in range(self.blocks[0]):
        yield Stage(f"layers.1.layers.{i}", narrow, narrow, 128)
    before = narrow
    # Channels after, those within the block that halves the map and within
    # those that follow.
    table = ((narrow, 128, 128), (wide, 256, 256), (wide, 512, 256))
    for stage, (after, first, rest) in enumerate(table, start=1):
      name = f"layers.{2 * stage}"
      yield Stage(name, before, after, first, stride=2)
      for i in range(self.blocks[stage]):
        name = f"layers.{2 * stage + 1}.layers.{i}"
        yield Stage(name, after, after, rest)
      before = after


@dataclasses.dataclass(frozen=True)
class Stage:
  """One block.

  Attributes:
    torch: its name in PyTorch code.
    before: channels that it takes.
    after: channels of its result.
    hidden: channels within; 0 for the second layer, which is no block.
    stride: 2 halves the map, 1 adds the input to the result.
  """

  torch: str
  before: int
  after: int
  hidden: int
  stride: int = 1


NETS = {
  # As in the paper, but for the embedding's size, which is 128 there.
  "mobilefacenet": MobileFaceNetSpec(),
  # The two of InsightFace.
  "mbf": MobileFaceNetSpec(scale=2),
  "mbf_large": MobileFaceNetSpec(scale=4, blocks=(2, 8, 12, 4)),
}


class PReluConv(nnx.Module):
  """Convolution - BN, then PReLU unless it is linear."""

  def __init__(
    self,
    in_channels: int,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    linear: bool = False,
    rngs: nnx.Rngs,
    dtype: Any,
  ):
    options: Any = {
      "stride": stride,
      "kernel_init": _START,
      "rngs": rngs,
      "dtype": dtype,
    }
    if groups == 1:
      self.conv = layers.conv(in_channels, channels, kernel, **options)
    else:
      self.conv = depthwise.GroupedConv(channels, groups=groups, **options)
    self.bn = batch_norm.BatchNorm(channels, rngs=rngs, dtype=dtype)
    self.prelu = None if linear else layers.PReLU(channels, rngs=rngs)

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None = None
  ) -> typing.Array:
    del key
    x = self.bn(self.conv(x))
    return x if self.prelu is None else self.prelu(x)


class Bottleneck(nnx.Module):
  """Wider by a 1x1 convolution, depthwise 3x3, narrower and linear by a 1x1."""

  def __init__(self, row: Stage, *, rngs: nnx.Rngs, dtype: Any):
    options: Any = {"rngs": rngs, "dtype": dtype}
    hidden = row.hidden
    self.expand = PReluConv(row.before, hidden, 1, **options)
    self.depthwise = PReluConv(
      hidden, hidden, 3, stride=row.stride, groups=hidden, **options
    )
    self.project = PReluConv(hidden, row.after, 1, linear=True, **options)
    self.residual = row.stride == 1

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    del key
    y = self.project(self.depthwise(self.expand(x)))
    return x + y if self.residual else y


class GlobalDepthwise(nnx.Module):
  """A weighted mean over the whole map, with weights of its own a channel."""

  def __init__(self, size: tuple[int, int], channels: int, *, rngs: nnx.Rngs):
    self.kernel = nnx.Param(_START(rngs.params(), (*size, 1, channels)))

  def __call__(self, x: typing.Array) -> typing.Array:
    return jnp.einsum("bhwc,hwc->bc", x, self.kernel[:, :, 0])


class MobileFaceNet(trunk.Net):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: scale and blocks; `NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width), see `check_image_size`.
    dropout: rate before the linear layer.
    dtype: type of the trunk's arithmetic; all from the last 1x1 convolution
      on, and BatchNorm statistics, are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if a side of the image is too small.
  """

  def __init__(
    self,
    spec: MobileFaceNetSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    options: Any = {"rngs": rngs, "dtype": dtype}
    rows = tuple(spec.rows())
    self.stem = PReluConv(3, rows[0].before, 3, stride=2, **options)
    self.blocks = nnx.List(
      Bottleneck(row, **options)
      if row.hidden
      else PReluConv(row.before, row.after, 3, groups=64, **options)
      for row in rows
    )
    self.remat = spec.remat
    head = _HEAD_CHANNELS
    self.separate = PReluConv(rows[-1].after, head, 1, rngs=rngs, dtype=None)
    self.pool = GlobalDepthwise(_map_size(image_size), head, rngs=rngs)
    self.pool_bn = batch_norm.BatchNorm(head, rngs=rngs)
    self.dropout = nnx.Dropout(dropout)
    self.linear = nnx.Linear(
      head, embedding_dim, use_bias=False, kernel_init=_START, rngs=rngs
    )
    self.embedding_bn = batch_norm.BatchNorm(embedding_dim, rngs=rngs)

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = trunk.run(self.blocks, self.stem(images), remat=self.remat)
    x = self.separate(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
    x = self.pool_bn(self.pool(x))
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    return self.linear(x)


def _map_size(image_size: tuple[int, int]) -> tuple[int, int]:
  """(height, width) of the last map."""
  for _ in range(4):
    image_size = pooling.reduced(image_size, 2)
  return image_size


def check_image_size(
  spec: MobileFaceNetSpec, image_size: tuple[int, int]
) -> None:
  """Refuses images that halve to nothing.

  Raises:
    ValueError: if a side is below 16.
  """
  del spec  # the same for all members
  pooling.check_sides(image_size, 16, published="112x112")


def multiply_adds(
  spec: MobileFaceNetSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layer for one image.

  >>> multiply_adds(NETS["mbf"], embedding_dim=512, image_size=(112, 112))
  437520896
  """
  size = pooling.reduced(image_size, 2)
  rows = tuple(spec.rows())
  total = math.prod(size) * 27 * rows[0].before
  for row in rows:
    pixels, size = math.prod(size), pooling.reduced(size, row.stride)
    if row.hidden:
      total += pixels * row.before * row.hidden
      total += math.prod(size) * row.hidden * (9 + row.after)
    else:
      total += pixels * 9 * row.before // 64 * row.after
  head = math.prod(size) * (rows[-1].after + 1) + embedding_dim
  return total + head * _HEAD_CHANNELS


def torch_layers(
  spec: MobileFaceNetSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under their names in arcface_torch and ours."""
  del image_size  # nothing is flattened that is larger than one pixel

  def unit(torch: str, *path: str | int, linear: bool = False):
    names = ("conv", "bn") if linear else ("conv", "bn", "prelu")
    for i, name in enumerate(names):
      yield torch_names.Layer(f"{torch}.layers.{i}", (*path, name))

  yield from unit("layers.0", "stem")
  for i, row in enumerate(spec.rows()):
    if not row.hidden:
      yield from unit(row.torch, "blocks", i)
      continue
    for j, name in enumerate(("expand", "depthwise", "project")):
      torch = f"{row.torch}.layers.{j}"
      yield from unit(torch, "blocks", i, name, linear=name == "project")
  yield from unit("conv_sep", "separate")
  yield torch_names.Layer("features.layers.0.layers.0", ("pool",))
  yield torch_names.Layer("features.layers.0.layers.1", ("pool_bn",))
  yield torch_names.Layer("features.layers.2", ("linear",))
  yield torch_names.Layer("features.layers.3", ("embedding_bn",))
