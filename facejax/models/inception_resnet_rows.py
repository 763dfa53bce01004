"""The tables of Inception-ResNet v1: its convolutions, blocks and their cost.

References:
  Szegedy, Ioffe, Vanhoucke, Alemi, Inception-v4, Inception-ResNet and the
    Impact of Residual Connections on Learning, 2016.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from facejax.models import pooling

# The smallest side that is left a pixel at the end.
MIN_SIDE = 75


@dataclasses.dataclass(frozen=True)
class ConvRow:
  """One convolution; without `pad` only whole windows count.

  Attributes:
    channels: of its result.
    kernel: height and width of its windows.
    stride: of its windows.
    pad: whether the map keeps its size, but for the stride.
  """

  channels: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  pad: bool = True

  def size(self, before: tuple[int, int]) -> tuple[int, int]:
    """Height and width of its result."""
    if self.pad:
      return pooling.reduced(before, self.stride)
    height, width = (
      (side - kernel) // self.stride + 1
      for side, kernel in zip(before, self.kernel, strict=True)
    )
    return height, width


Branches: TypeAlias = tuple[tuple[ConvRow, ...], ...]


@dataclasses.dataclass(frozen=True)
class BranchRow:
  """One block: branches side by side.

  Attributes:
    torch: its name in facenet-pytorch.
    branches: convolutions in a row, for each.
    scale: of what is added to the input; 0 for a block that halves the map,
      with max pooling as one branch more.
    relu: whether ReLU follows the sum.
  """

  torch: str
  branches: Branches
  scale: float = 0.0
  relu: bool = True


_square, _halve = (3, 3), ConvRow(256, (3, 3), 2, pad=False)
STEM = {
  "conv2d_1a": ConvRow(32, _square, 2, pad=False),
  "conv2d_2a": ConvRow(32, _square, pad=False),
  "conv2d_2b": ConvRow(64, _square),
  "maxpool_3a": None,
  "conv2d_3b": ConvRow(80),
  "conv2d_4a": ConvRow(192, _square, pad=False),
  "conv2d_4b": _halve,
}
_BLOCK35 = (
  (ConvRow(32),),
  (ConvRow(32), ConvRow(32, _square)),
  (ConvRow(32), ConvRow(32, _square), ConvRow(32, _square)),
)
_BLOCK17 = (
  (ConvRow(128),),
  (ConvRow(128), ConvRow(128, (1, 7)), ConvRow(128, (7, 1))),
)
_BLOCK8 = (
  (ConvRow(192),),
  (ConvRow(192), ConvRow(192, (1, 3)), ConvRow(192, (3, 1))),
)
_MIXED_6A = (
  (dataclasses.replace(_halve, channels=384),),
  (ConvRow(192), ConvRow(192, _square), _halve),
)
_MIXED_7A = (
  (ConvRow(256), dataclasses.replace(_halve, channels=384)),
  (ConvRow(256), _halve),
  (ConvRow(256), ConvRow(256, _square), _halve),
)


@dataclasses.dataclass(frozen=True)
class InceptionResNetSpec:
  """How often each block is there.

  Attributes:
    repeats: of the blocks on maps of 35, 17 and 8 pixels, by their names.
    remat: compute blocks again in the backward pass.
  """

  repeats: tuple[int, int, int] = (5, 10, 5)
  remat: bool = False

  def rows(self) -> Iterator[BranchRow]:
    """The blocks in turn."""
    first, second, third = self.repeats
    for i in range(first):
      yield BranchRow(f"repeat_1.{i}", _BLOCK35, 0.17)
    yield BranchRow("mixed_6a", _MIXED_6A)
    for i in range(second):
      yield BranchRow(f"repeat_2.{i}", _BLOCK17, 0.10)
    yield BranchRow("mixed_7a", _MIXED_7A)
    for i in range(third):
      yield BranchRow(f"repeat_3.{i}", _BLOCK8, 0.20)
    yield BranchRow("block8", _BLOCK8, 1.0, relu=False)


NETS = {"inception_resnet_v1": InceptionResNetSpec()}


def inputs(before: int, convs: Sequence[ConvRow]) -> list[int]:
  """Channels that each convolution of a branch takes."""
  return [before, *(conv.channels for conv in convs[:-1])]


def channels_after(before: int, row: BranchRow) -> int:
  """Channels after a block."""
  if row.scale:
    return before
  return before + sum(convs[-1].channels for convs in row.branches)


def check_image_size(
  spec: InceptionResNetSpec, image_size: tuple[int, int]
) -> None:
  """Refuses images that nothing would be left of.

  Raises:
    ValueError: if a side is below 75.
  """
  del spec  # the same for all members
  pooling.check_sides(image_size, MIN_SIDE, published="160x160")


def multiply_adds(
  spec: InceptionResNetSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layer for one image.

  >>> size = (160, 160)
  >>> multiply_adds(InceptionResNetSpec(), embedding_dim=512, image_size=size)
  1417662304
  """
  total, size, channels = 0, image_size, 3

  def cost(before, conv, size):
    after = conv.size(size)
    area = math.prod(after) * math.prod(conv.kernel)
    return area * before * conv.channels, after

  for conv in STEM.values():
    if conv is None:
      size = _halve.size(size)  # the pool has the same windows
      continue
    added, size = cost(channels, conv, size)
    total, channels = total + added, conv.channels
  for row in spec.rows():
    after = size
    for convs in row.branches:
      after = size
      for before, conv in zip(inputs(channels, convs), convs, strict=True):
        added, after = cost(before, conv, after)
        total += added
    if row.scale:
      joined = sum(convs[-1].channels for convs in row.branches)
      total += math.prod(size) * joined * channels
    size, channels = after, channels_after(channels, row)
  return total + channels * embedding_dim
