"""Inception-ResNet v1, the net of FaceNet's open re-implementations.

As facenet-pytorch has it, whose released weights take images of 160 x 160 and
pixels as (x - 127.5) / 128. Convolutions without bias, BatchNorm with epsilon
0.001, residuals that are scaled down before they are added.

References:
  Szegedy, Ioffe, Vanhoucke, Alemi, Inception-v4, Inception-ResNet and the
    Impact of Residual Connections on Learning, 2016.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx

from facejax.models import (
  batch_norm,
  layers,
  pooling,
  torch_names,
  trunk,
)
from facejax.models import inception_resnet_rows as rows
from facejax.runtime import typing

EPSILON = 1e-3
_START = nnx.initializers.he_normal()


class ReluConv(nnx.Module):
  """Convolution - BN - ReLU."""

  def __init__(
    self, before: int, row: rows.ConvRow, *, rngs: nnx.Rngs, dtype: Any
  ):
    height, width = (side // 2 if row.pad else 0 for side in row.kernel)
    self.conv = nnx.Conv(
      before,
      row.channels,
      row.kernel,
      strides=row.stride,
      padding=((height, height), (width, width)),
      use_bias=False,
      kernel_init=_START,
      rngs=rngs,
      dtype=dtype,
    )
    self.bn = batch_norm.BatchNorm(
      row.channels, rngs=rngs, dtype=dtype, epsilon=EPSILON
    )

  def __call__(self, x: typing.Array) -> typing.Array:
    return nnx.relu(self.bn(self.conv(x)))


class BranchBlock(nnx.Module):
  """The branches of a block, concatenated; added to the input, or with a pool."""

  def __init__(
    self, before: int, row: rows.BranchRow, *, rngs: nnx.Rngs, dtype: Any
  ):
    options: Any = {"rngs": rngs, "dtype": dtype}
    self.branches = nnx.List(
      nnx.List(
        ReluConv(channels, conv, **options)
        for channels, conv in zip(
          rows.inputs(before, convs), convs, strict=True
        )
      )
      for convs in row.branches
    )
    self.scale, self.relu = row.scale, row.relu
    if row.scale:
      total = sum(convs[-1].channels for convs in row.branches)
      self.conv2d = layers.conv(
        total, before, 1, bias=True, kernel_init=_START, **options
      )

  def __call__(
    self, x: typing.Array, key: typing.PRNGKey | None
  ) -> typing.Array:
    del key
    found = []
    for branch in self.branches:
      y = x
      for unit in branch:
        y = unit(y)
      found.append(y)
    if not self.scale:
      found.append(pooling.max_pool(x, stride=2, pad=False))
      return jnp.concatenate(found, axis=-1)
    y = self.conv2d(jnp.concatenate(found, axis=-1)) * self.scale + x
    return nnx.relu(y) if self.relu else y


class InceptionResNet(trunk.Net):
  """Images [batch, height, width, 3] to embeddings [batch, dim] in float32.

  Args:
    spec: how often each block is there.
    embedding_dim: size of the embedding.
    image_size: (height, width), of at least 75 each.
    dropout: rate before the linear layer; published with 0.6.
    dtype: type of the trunk's arithmetic; BatchNorm statistics, the linear
      layer and the embeddings are float32 at least.
    rngs: nnx random streams.

  Raises:
    ValueError: if a side of the image is too small.
  """

  def __init__(
    self,
    spec: rows.InceptionResNetSpec,
    *,
    embedding_dim: int,
    image_size: tuple[int, int],
    dropout: float,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    rows.check_image_size(spec, image_size)
    options: Any = {"rngs": rngs, "dtype": dtype}
    channels, stem = 3, {}
    for name, conv in rows.STEM.items():
      if conv is not None:
        stem[name] = ReluConv(channels, conv, **options)
        channels = conv.channels
    self.stem = nnx.Dict(stem)
    blocks = []
    for row in spec.rows():
      blocks.append(BranchBlock(channels, row, **options))
      channels = rows.channels_after(channels, row)
    self.blocks, self.remat = nnx.List(blocks), spec.remat
    self.dropout = nnx.Dropout(dropout)
    self.linear = nnx.Linear(channels, embedding_dim, use_bias=False, rngs=rngs)
    self.embedding_bn = batch_norm.BatchNorm(
      embedding_dim, rngs=rngs, epsilon=EPSILON
    )

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = images
    for name, conv in rows.STEM.items():
      if conv is None:
        x = pooling.max_pool(x, stride=2, pad=False)
      else:
        x = self.stem[name](x)
    x = trunk.run(self.blocks, x, remat=self.remat)
    x = x.mean(axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    return self.linear(x)


def torch_layers(
  spec: rows.InceptionResNetSpec, *, image_size: tuple[int, int]
) -> Iterator[torch_names.Layer]:
  """The layers under their names in facenet-pytorch and ours."""
  del image_size  # nothing is flattened that is larger than one pixel
  layer = torch_names.Layer

  def unit(torch: str, *path: str | int):
    yield layer(f"{torch}.conv", (*path, "conv"))
    yield layer(f"{torch}.bn", (*path, "bn"))

  for name, conv in rows.STEM.items():
    if conv is not None:
      yield from unit(name, "stem", name)
  for i, row in enumerate(spec.rows()):
    for j, convs in enumerate(row.branches):
      for k in range(len(convs)):
        # A branch of one convolution has no number there.
        place = f".{k}" if len(convs) > 1 else ""
        torch = f"{row.torch}.branch{j}{place}"
        yield from unit(torch, "blocks", i, "branches", j, k)
    if row.scale:
      yield layer(f"{row.torch}.conv2d", ("blocks", i, "conv2d"))
  yield layer("last_linear", ("linear",))
  yield layer("last_bn", ("embedding_bn",))
