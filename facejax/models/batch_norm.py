"""Batch normalisation as torch has it, with its gradient in two sums."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.runtime import typing

# Weight of the old value in the running statistics, as in every published net
# (torch names the weight of the new one, 0.1).
_MOMENTUM = 0.9


class TooFewError(ValueError):
  """There is one value a channel: it is its own mean, and nothing is left."""


class BatchNorm(nnx.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, over all but channels.

  As torch has it, with running statistics of float32 at least. flax's keeps a
  running variance that lacks the factor n / (n - 1), and rounds the running
  statistics to the type of the trunk where it evaluates.

  Under `jit` over a sharded batch the statistics are those of the global
  batch, whatever the number of devices. Training on one value a channel raises
  `TooFewError`, as in torch.

  Args:
    channels: size of the last axis.
    rngs: nnx random streams.
    dtype: type of the result; that of the input, float32 at least, if None.
    scale: False keeps the scale (gamma) fixed at 1.
    bias: False keeps the bias (beta) fixed at 0.
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
    bias: bool = True,
    epsilon: float = 1e-5,
  ):
    self.mean = nnx.BatchStat(jnp.zeros(channels))
    self.var = nnx.BatchStat(jnp.ones(channels))
    ones, zeros = nnx.initializers.ones, nnx.initializers.zeros
    self.scale = nnx.Param(ones(rngs.params(), (channels,))) if scale else None
    self.bias = nnx.Param(zeros(rngs.params(), (channels,))) if bias else None
    self.dtype, self.epsilon = dtype, epsilon
    self.use_running_average = False  # `train()` and `eval()` of a net set it

  def __call__(self, x: typing.Array) -> typing.Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = self.mean[...]
    scale = jnp.ones_like(mean) if self.scale is None else self.scale[...]
    bias = jnp.zeros_like(mean) if self.bias is None else self.bias[...]
    if self.use_running_average:
      centred = x - _wide(mean, x)
      y = _scaled(centred, self.var[...], scale, bias, self.epsilon)
    else:
      count = x.size // x.shape[-1]
      if count < 2:
        raise TooFewError(
          "BatchNorm of one value a channel gives 0, and no gradient"
        )
      y, mean, var = normalize(self.epsilon, x, scale, bias)
      self._remember(mean, var * (count / (count - 1)))
    return y.astype(self.dtype or x.dtype)

  def _remember(self, mean: typing.Array, var: typing.Array) -> None:
    for stat, new in ((self.mean, mean), (self.var, var)):
      # `stat[...] = ` would make tracing quadratic in the depth of the net.
      stat.set_value(_MOMENTUM * stat[...] + (1 - _MOMENTUM) * new)


def normalize(
  epsilon: float, x: typing.Array, scale: typing.Array, bias: typing.Array
) -> tuple[typing.Array, typing.Array, typing.Array]:
  """Normalises with the statistics of the batch itself.

  With n rows and z = (x - mean) / sqrt(var + epsilon), the gradients are

  ```
  d_bias = sum dy,  d_scale = sum dy z
  dx = scale / sqrt(var + epsilon) * (dy - d_bias / n - z d_scale / n)
  ```

  which takes two sums over the batch, where differentiation through mean and
  variance takes four. The mean and the variance that it returns, for the
  running statistics, have no gradient.

  Args:
    epsilon: added to the variance.
    x: [..., channels].
    scale: gamma [channels].
    bias: beta [channels].

  Returns:
    y like x, mean [channels], biased variance [channels].

  References:
    Ioffe, Szegedy, Batch Normalization, 2015, section 3.
  """
  return _normalized(epsilon, x, scale, bias)


def _from_batch(epsilon, x, scale, bias):
  axes = tuple(range(x.ndim - 1))
  mean = x.mean(axes)
  # Not E[x^2] - E[x]^2, which loses the variance where the mean is large.
  centred = x - _wide(mean, x)
  var = jnp.square(centred).mean(axes)
  return _scaled(centred, var, scale, bias, epsilon), mean, var


def _forward(epsilon, x, scale, bias):
  y, mean, var = _from_batch(epsilon, x, scale, bias)
  return (y, mean, var), (x, mean, var, scale)


def _backward(epsilon, residuals, gradients):
  x, mean, var, scale = residuals
  dy, _, _ = gradients
  axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
  factor = jax.lax.rsqrt(var + epsilon)
  centred = x - _wide(mean, x)
  d_bias = dy.sum(axes)
  d_scale = (dy * centred).sum(axes) * factor
  rest = _wide(d_bias / count, x) + centred * _wide(d_scale * factor / count, x)
  return _wide(scale * factor, x) * (dy - rest), d_scale, d_bias


_normalized = jax.custom_vjp(_from_batch, nondiff_argnums=(0,))
_normalized.defvjp(_forward, _backward)


def _scaled(centred, var, scale, bias, epsilon):
  factor = jax.lax.rsqrt(var + epsilon) * scale
  return centred * _wide(factor, centred) + _wide(bias, centred)


def _wide(channels, x):
  return channels.reshape((1,) * (x.ndim - 1) + (-1,))
