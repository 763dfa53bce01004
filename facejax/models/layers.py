"""Layers that the face nets share and that flax does not have as they are."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from facejax import typing
from facejax.losses import geometry

# How a net keeps its maps in range: BatchNorm after every convolution, or the
# local response normalisation of the nets that were published before it.
Norm: TypeAlias = Literal["batch", "lrn"]

# Weight of the old value in the running statistics, as in every published net
# (torch names the weight of the new one, 0.1).
_MOMENTUM = 0.9

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


class BatchNorm(nnx.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, over all but channels.

  As torch has it, with running statistics of float32 at least. flax's keeps a
  running variance that lacks the factor n / (n - 1), and rounds the running
  statistics to the type of the trunk where it evaluates.

  Under `jit` over a sharded batch the statistics are those of the global
  batch, whatever the number of devices.

  Args:
    channels: size of the last axis.
    rngs: nnx random streams.
    dtype: type of the result; that of the input, float32 at least, if None.
    scale: False keeps the scale (gamma) fixed at 1.
    epsilon: added to the variance.

  References:
    Ioffe, Szegedy, Batch Normalization, 2015.
  """

  def __init__(
    self,
    channels: int,
    *,
    rngs: nnx.Rngs,
    dtype: Any = None,
    scale: bool = True,
    epsilon: float = 1e-5,
  ):
    self.mean = nnx.BatchStat(jnp.zeros(channels))
    self.var = nnx.BatchStat(jnp.ones(channels))
    ones, zeros = nnx.initializers.ones, nnx.initializers.zeros
    self.scale = nnx.Param(ones(rngs.params(), (channels,))) if scale else None
    self.bias = nnx.Param(zeros(rngs.params(), (channels,)))
    self.dtype, self.epsilon = dtype, epsilon
    self.use_running_average = False  # `train()` and `eval()` of a net set it

  def __call__(self, x: typing.Array) -> typing.Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if self.use_running_average:
      mean, var = self.mean[...], self.var[...]
    else:
      axes = tuple(range(x.ndim - 1))
      # Not E[x^2] - E[x]^2, which loses the variance where the mean is large.
      mean, var = x.mean(axes), x.var(axes)
      count = x.size // x.shape[-1]
      self._remember(mean, var * (count / max(count - 1, 1)))
    factor = jax.lax.rsqrt(var + self.epsilon)
    if self.scale is not None:
      factor = factor * self.scale[...]
    wide = (1,) * (x.ndim - 1) + (-1,)
    y = (x - mean.reshape(wide)) * factor.reshape(wide)
    return (y + self.bias[...].reshape(wide)).astype(self.dtype or x.dtype)

  def _remember(self, mean: typing.Array, var: typing.Array) -> None:
    for stat, new in ((self.mean, mean), (self.var, var)):
      # `stat[...] = ` would make tracing quadratic in the depth of the net.
      stat.set_value(_MOMENTUM * stat[...] + (1 - _MOMENTUM) * new)


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
  kernel_init: nnx.Initializer = _IRESNET_KERNEL,
  rngs: nnx.Rngs,
  dtype: Any = None,
) -> nnx.Conv:
  """Convolution padded like torch on both sides.

  flax's "SAME" pads an even-sized input of a stride-2 convolution on one side
  only, which shifts every later map by half a pixel against the published
  nets; hence the explicit padding.
  """
  pad = (kernel - 1) // 2
  return nnx.Conv(
    in_channels,
    out_channels,
    (kernel, kernel),
    strides=stride,
    padding=((pad, pad), (pad, pad)),
    feature_group_count=groups,
    use_bias=bias,
    dtype=dtype,
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
    self.bn = BatchNorm(channels, rngs=rngs, dtype=dtype) if batch else None

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
    return geometry.l2_normalize(self.linear(x))
