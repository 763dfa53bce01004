"""Layers that the face nets share and that flax does not have as they are."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.models import batch_norm, halving
from facejax.runtime import typing, unit_vectors

# How a net keeps its maps in range: BatchNorm after every convolution, or the
# local response normalisation of the nets that were published before it.
Norm: TypeAlias = Literal["batch", "lrn"]

# The start of a convolution in the published code of iResNet.
_IRESNET_KERNEL = nnx.initializers.normal(0.1)


class PReLU(nnx.Module):
  """Leaky ReLU with one learnt slope a channel: max(x, 0) + a min(x, 0).

  References:
    He et al., Delving Deep into Rectifiers, 2015.
  """

  def __init__(self, channels: int, *, rngs: nnx.Rngs):
    del rngs  # the published start is a constant
    self.slope = nnx.Param(jnp.full((channels,), 0.25))

  def __call__(self, x: typing.Array) -> typing.Array:
    slope = self.slope[...].astype(x.dtype)
    slope = slope.reshape((1,) * (x.ndim - 1) + (-1,))
    return jnp.maximum(x, 0) + slope * jnp.minimum(x, 0)


def symmetric_uniform(bound: float) -> nnx.Initializer:
  """Uniform between -bound and bound: torch's start of most layers."""

  def init(key, shape, dtype=jnp.float32, **_):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def conv(
  in_channels: int,
  out_channels: int,
  kernel: int,
  *,
  stride: int = 1,
  groups: int = 1,
  bias: bool = False,
  pad: bool = True,
  kernel_init: nnx.Initializer = _IRESNET_KERNEL,
  rngs: nnx.Rngs,
  dtype: Any = None,
) -> nnx.Conv:
  """Convolution padded like torch on both sides; without `pad` not at all.

  flax's "SAME" pads an even-sized input of a stride-2 convolution on one side
  only, which shifts every later map by half a pixel against the published
  nets; hence the explicit padding.
  """
  width = (kernel - 1) // 2 if pad else 0
  return nnx.Conv(
    in_channels,
    out_channels,
    (kernel, kernel),
    strides=stride,
    padding=((width, width), (width, width)),
    feature_group_count=groups,
    use_bias=bias,
    dtype=dtype,
    conv_general_dilated=halving.convolution,
    kernel_init=kernel_init,
    rngs=rngs,
  )


class ConvUnit(nnx.Module):
  """Convolution, BatchNorm if asked for, ReLU: the brick of FaceNet's nets.

  The convolution keeps its bias under BatchNorm too, as the public ports of
  these nets have it.
  """

  def __init__(
    self,
    in_channels: int,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    norm: Norm,
    rngs: nnx.Rngs,
    dtype: Any = None,
  ):
    self.conv = conv(
      in_channels,
      channels,
      kernel,
      stride=stride,
      bias=True,
      kernel_init=nnx.initializers.he_normal(),
      rngs=rngs,
      dtype=dtype,
    )
    batch = norm == "batch"
    self.bn = (
      batch_norm.BatchNorm(channels, rngs=rngs, dtype=dtype) if batch else None
    )

  def __call__(self, x: typing.Array) -> typing.Array:
    x = self.conv(x)
    return nnx.relu(x if self.bn is None else self.bn(x))


class Maxout(nnx.Module):
  """The larger of two linear layers, output by output.

  References:
    Goodfellow et al., Maxout Networks, 2013.
  """

  def __init__(
    self, inputs: int, outputs: int, *, rngs: nnx.Rngs, dtype: Any = None
  ):
    self.linear = nnx.Linear(inputs, 2 * outputs, rngs=rngs, dtype=dtype)

  def __call__(self, x: typing.Array) -> typing.Array:
    y = self.linear(x)
    return y.reshape(*x.shape[:-1], -1, 2).max(axis=-1)


class UnitEmbedding(nnx.Module):
  """Dropout, linear layer, scaling to unit length; float32 at least."""

  def __init__(
    self, inputs: int, embedding_dim: int, *, dropout: float, rngs: nnx.Rngs
  ):
    self.dropout = nnx.Dropout(dropout)
    self.linear = nnx.Linear(inputs, embedding_dim, rngs=rngs)

  def __call__(
    self, x: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = self.dropout(x, deterministic=dropout_key is None, rngs=dropout_key)
    return unit_vectors.l2_normalize(self.linear(x))
