"""SphereFace's nets: residual nets without BatchNorm.

Each of four stages starts with a convolution of stride 2, followed by units of
two convolutions whose result is added. PReLU follows every convolution, in a
unit even before the addition. One linear layer makes the embedding.

References:
  Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, 2017
    (its Table 2).
  Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
    2018 (the net of 64 layers).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from facejax.models import layers, pooling, torch_names, trunk
from facejax.runtime import typing

_STAGES = 4


@dataclasses.dataclass(frozen=True)
class SphereFaceSpec:
  """Size of one member of the family.

  Attributes:
    units: residual units in each of the four stages.
    widths: channels of each stage.
    remat: compute units again in the backward pass.
  """

  units: tuple[int, int, int, int]
  widths: tuple[int, int, int, int] = (64, 128, 256, 512)
  remat: bool = False


# Named by their convolutions. The paper has 8 units in the second stage of its
# largest net; the file of that name that was released has 7, and the PyTorch
# code of CosFace follows the file.
NETS = {
  "sphereface4": SphereFaceSpec((0, 0, 0, 0)),
  "sphereface10": SphereFaceSpec((0, 1, 2, 0)),
  "sphereface20": SphereFaceSpec((1, 2, 4, 1)),
  "sphereface36": SphereFaceSpec((2, 4, 8, 2)),
  "sphereface62": SphereFaceSpec((3, 7, 16, 3)),
  "sphereface64": SphereFaceSpec((3, 8, 16, 3)),
}


class Entry(nnx.Module):
  """conv3x3/2 - PReLU."""

  def __init__(
    self, in_channels: int, channels: int, *, rngs: nnx.Rngs, dtype: Any
  ):
    self.conv = layers.conv(
      in_channels,
      channels,
      3,
      stride=2,
      bias=True,
      kernel_init=nnx.initializers.xavier_uniform(),
      rngs=rngs,
      dtype=dtype,
    )
    self.prelu = layers.PReLU(channels, rngs=rngs)

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    del key
    return self.prelu(self.conv(x))


class Unit(nnx.Module):
  """x + PReLU(conv3x3(PReLU(conv3x3(x))))."""

  def __init__(self, channels: int, *, rngs: nnx.Rngs, dtype: Any):
    options: Any = {
      # Published with biases that stay at 0; here they learn, as in PyTorch.
      "bias": True,
      "kernel_init": nnx.initializers.normal(0.01),
      "rngs": rngs,
      "dtype": dtype,
    }
    self.conv1 = layers.conv(channels, channels, 3, **options)
    self.prelu1 = layers.PReLU(channels, rngs=rngs)
    self.conv2 = layers.conv(channels, channels, 3, **options)
    self.prelu2 = layers.PReLU(channels, rngs=rngs)

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    del key
    return x + self.prelu2(self.conv2(self.prelu1(self.conv1(x))))


class SphereFace(trunk.Net):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: units and widths; `NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width), see `check_image_size`; published at 112x96.
    dropout: rate before the linear layer.
    dtype: type of the trunk's arithmetic; the linear layer and the embeddings
      are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if a side of the image is too small.
  """

  def __init__(
    self,
    spec: SphereFaceSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    blocks, channels = [], 3
    for width, count in zip(spec.widths, spec.units, strict=True):
      blocks.append(Entry(channels, width, rngs=rngs, dtype=dtype))
      blocks += [Unit(width, rngs=rngs, dtype=dtype) for _ in range(count)]
      channels = width
    self.blocks, self.remat = nnx.List(blocks), spec.remat
    self.dropout = nnx.Dropout(dropout)
    self.linear = nnx.Linear(
      math.prod(_map_size(image_size)) * channels,
      embedding_dim,
      kernel_init=nnx.initializers.xavier_uniform(),
      rngs=rngs,
    )
    self.embedding_bn = None

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = trunk.run(self.blocks, images, remat=self.remat)
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    x = x.reshape(x.shape[0], -1)
    return self.linear(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


def _map_size(image_size: tuple[int, int]) -> tuple[int, int]:
  """(height, width) of the last map."""
  for _ in range(_STAGES):
    image_size = pooling.reduced(image_size, 2)
  return image_size


def check_image_size(spec: SphereFaceSpec, image_size: tuple[int, int]) -> None:
  """Refuses images that halve to nothing.

  Raises:
    ValueError: if a side is below 16.
  """
  del spec  # the same for all members
  pooling.check_sides(image_size, 2**_STAGES, published="112x96")


def multiply_adds(
  spec: SphereFaceSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layer for one image.

  >>> multiply_adds(
  ...   NETS["sphereface20"], embedding_dim=512, image_size=(112, 96)
  ... )
  1749737472
  """
  total, channels, size = 0, 3, image_size
  for width, count in zip(spec.widths, spec.units, strict=True):
    size = pooling.reduced(size, 2)
    total += math.prod(size) * 9 * width * (channels + 2 * count * width)
    channels = width
  return total + math.prod(size) * channels * embedding_dim


def torch_layers(
  spec: SphereFaceSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under the names of the released file, which PyTorch code keeps.

  They count convolutions in a stage: conv2_1 and relu2_1 start the second,
  conv2_2 to relu2_3 are its first unit.
  """
  layer = torch_names.Layer
  block = 0
  for stage, count in enumerate(spec.units, start=1):
    yield layer(f"conv{stage}_1", ("blocks", block, "conv"))
    yield layer(f"relu{stage}_1", ("blocks", block, "prelu"))
    for i in range(2, 2 * count + 2):
      unit, which = block + i // 2, i % 2 + 1
      yield layer(f"conv{stage}_{i}", ("blocks", unit, f"conv{which}"))
      yield layer(f"relu{stage}_{i}", ("blocks", unit, f"prelu{which}"))
    block += count + 1
  yield layer("fc5", ("linear",), flat=_map_size(image_size))
