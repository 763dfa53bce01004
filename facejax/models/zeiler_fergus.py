"""The net of Zeiler and Fergus as FaceNet has it: 1x1 convolutions, maxout.

References:
  Zeiler, Fergus, Visualizing and Understanding Convolutional Networks, 2013.
  Schroff, Kalenichenko, Philbin, FaceNet: A Unified Embedding for Face
    Recognition and Clustering, 2015.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from flax import nnx

from facejax.models import layers, pooling, trunk
from facejax.runtime import typing


@dataclasses.dataclass(frozen=True)
class Conv:
  """A convolution, followed by ReLU.

  Attributes:
    name: as in the table.
    channels: of its result.
    kernel: width of its windows.
    stride: of its windows.
  """

  name: str
  channels: int
  kernel: int
  stride: int = 1


# A name alone is a layer without weights: poolN halves the map, rnormN is
# local response normalisation.
Row: TypeAlias = Conv | str


@dataclasses.dataclass(frozen=True)
class ZeilerFergusSpec:
  """The rows of the table.

  Attributes:
    rows: the convolutional part.
    hidden: outputs of each of the two maxout layers.
    image_size: (height, width) of the input.
  """

  rows: tuple[Row, ...]
  hidden: int
  image_size: tuple[int, int]


class ZeilerFergus(trunk.Net):
  """Images [batch, height, width, 3] to unit vectors [batch, dim] in float32.

  Args:
    spec: the rows; `facenet.NETS` holds the published ones.
    embedding_dim: size of the embedding.
    image_size: (height, width), those of the spec.
    dropout: rate before the last linear layer.
    norm: "lrn" as published; "batch" puts BatchNorm after every convolution
      in its place.
    dtype: type of the trunk's arithmetic; BatchNorm statistics, the last
      linear layer and the embeddings are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if the images have another size.
  """

  def __init__(
    self,
    spec: ZeilerFergusSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    norm: layers.Norm,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    check_image_size(spec, image_size)
    self.rows = spec.rows
    self.use_lrn = norm == "lrn"
    convs, channels = {}, 3
    for row in spec.rows:
      if isinstance(row, Conv):
        convs[row.name] = layers.ConvUnit(
          channels,
          row.channels,
          row.kernel,
          stride=row.stride,
          norm=norm,
          rngs=rngs,
          dtype=dtype,
        )
        channels = row.channels
    self.convs = nnx.Dict(convs)
    flat = math.prod(_sizes(spec)[-1]) * channels
    self.fc1 = layers.Maxout(flat, spec.hidden, rngs=rngs, dtype=dtype)
    self.fc2 = layers.Maxout(spec.hidden, spec.hidden, rngs=rngs, dtype=dtype)
    self.embedding = layers.UnitEmbedding(
      spec.hidden, embedding_dim, dropout=dropout, rngs=rngs
    )
    self.embedding_bn = None

  def maps(self, x: typing.Array) -> Iterator[tuple[str, typing.Array]]:
    """The name and result of every row before the linear layers, in turn."""
    for row in self.rows:
      if isinstance(row, Conv):
        x = self.convs[row.name](x)
        yield row.name, x
      elif row.startswith("pool"):
        x = pooling.max_pool(x, stride=2)
        yield row, x
      elif self.use_lrn:
        x = pooling.local_response_norm(x)
        yield row, x

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    *_, (_, x) = self.maps(images)
    x = self.fc2(self.fc1(x.reshape(x.shape[0], -1)))
    return self.embedding(x, dropout_key=dropout_key)


def check_image_size(
  spec: ZeilerFergusSpec, image_size: tuple[int, int]
) -> None:
  """Refuses images that the first linear layer was not made for.

  Raises:
    ValueError: if the size is not the published one.
  """
  if tuple(image_size) != spec.image_size:
    height, width = spec.image_size
    raise ValueError(
      f"image_size {tuple(image_size)}: this net takes {height}x{width} only,"
      " which the width of its first linear layer follows from"
    )


def _sizes(spec: ZeilerFergusSpec) -> list[tuple[int, int]]:
  """(height, width) after each row."""
  sizes, size = [], spec.image_size
  for row in spec.rows:
    if isinstance(row, Conv):
      size = pooling.reduced(size, row.stride)
    elif row.startswith("pool"):
      size = pooling.reduced(size, 2)
    sizes.append(size)
  return sizes


def multiply_adds(
  spec: ZeilerFergusSpec, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Multiply-adds of convolutions and linear layers for one image.

  >>> from facejax.models import facenet
  >>> nn1 = facenet.NETS["nn1"]
  >>> multiply_adds(nn1, embedding_dim=128, image_size=(220, 220))
  1605944064
  """
  check_image_size(spec, image_size)
  total, channels, size = 0, 3, image_size
  for row, size in zip(spec.rows, _sizes(spec), strict=True):
    if isinstance(row, Conv):
      total += math.prod(size) * row.kernel**2 * channels * row.channels
      channels = row.channels
  linear = math.prod(size) * channels + spec.hidden
  return total + linear * 2 * spec.hidden + spec.hidden * embedding_dim
