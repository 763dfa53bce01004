"""Layers that the face nets share and that flax does not have as they are."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from facejax import typing

# torch's BatchNorm2d defaults, which the published nets were trained with:
# its momentum 0.1 is the weight of the new value, flax's that of the old one.
BATCH_NORM = {
  "momentum": 0.9,
  "epsilon": 1e-5,
  # E[x^2] - E[x]^2 loses the variance where the mean is large.
  "use_fast_variance": False,
}


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


def batch_norm(
  channels: int, *, rngs: nnx.Rngs, dtype: Any = None, scale: bool = True
) -> nnx.BatchNorm:
  """BatchNorm with torch's defaults and statistics of float32 at least.

  Under `jit` over a sharded batch the statistics are those of the global
  batch, whatever the number of devices.

  Args:
    channels: size of the last axis.
    rngs: nnx random streams.
    dtype: type of the result.
    scale: False keeps the scale (gamma) fixed at 1.
  """
  return nnx.BatchNorm(
    channels, rngs=rngs, dtype=dtype, use_scale=scale, **BATCH_NORM
  )


def conv(
  in_channels: int,
  out_channels: int,
  kernel: int,
  *,
  stride: int = 1,
  rngs: nnx.Rngs,
  dtype: Any = None,
) -> nnx.Conv:
  """Convolution without bias, padded like torch on both sides.

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
    use_bias=False,
    dtype=dtype,
    kernel_init=nnx.initializers.normal(0.1),
    rngs=rngs,
  )
