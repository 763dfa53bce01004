"""Batch normalisation as torch has it, with its gradient in two sums."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.runtime import mesh as mesh_lib
from facejax.runtime import typing

# Weight of the old value in the running statistics, as in every published net
# (torch names the weight of the new one, 0.1).
_MOMENTUM = 0.9
# The devices of the batch that is traced.
_MESH: contextvars.ContextVar[jax.sharding.Mesh | None] = (
  contextvars.ContextVar("mesh", default=None)
)


class TooFewError(ValueError):
  """There is one value a channel: it is its own mean, and nothing is left."""


class BatchNorm(nnx.Module):
  """y = (x - mean) / sqrt(var + epsilon) * scale + bias, over all but channels.

  As torch has it, with running statistics of float32 at least. flax's keeps a
  running variance that lacks the factor n / (n - 1), and rounds the running
  statistics to the type of the trunk where it evaluates.

  Under `jit` over a sharded batch the statistics are those of the global
  batch, whatever the number of devices; or, with `group`, of each so many
  examples in the order of the batch, whose means the running statistics take.
  Where each device holds whole groups, nothing crosses devices in between.
  Training on one value a channel raises `TooFewError`, as in torch.

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
    self.group = 0  # examples; `in_groups` of a net sets it
    self.use_running_average = False  # `train()` and `eval()` of a net set it
    self.frozen = False  # `freeze` of a net sets it

  def __call__(self, x: typing.Array) -> typing.Array:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = self.mean[...]
    scale = jnp.ones_like(mean) if self.scale is None else self.scale[...]
    bias = jnp.zeros_like(mean) if self.bias is None else self.bias[...]
    if self.use_running_average or self.frozen:
      centred = x - _wide(mean, x)
      y = _scaled(centred, self.var[...], scale, bias, self.epsilon)
    else:
      groups = _groups(len(x), self.group)
      count = x.size // x.shape[-1] // groups
      if count < 2:
        raise TooFewError(
          "BatchNorm of one value a channel gives 0, and no gradient"
        )
      y, mean, var = normalize(self.epsilon, x, scale, bias, groups=groups)
      self._remember(mean, var * (count / (count - 1)))
    return y.astype(self.dtype or x.dtype)

  def _remember(self, mean: typing.Array, var: typing.Array) -> None:
    for stat, new in ((self.mean, mean), (self.var, var)):
      # `stat[...] = ` would make tracing quadratic in the depth of the net.
      stat.set_value(_MOMENTUM * stat[...] + (1 - _MOMENTUM) * new)


def in_groups(net: nnx.Module, size: int) -> None:
  """Lets all BatchNorm of a net see so many examples at a time; 0 for all."""
  for _, module in nnx.iter_modules(net):
    if isinstance(module, BatchNorm):
      module.group = size


def freeze(net: nnx.Module) -> None:
  """Lets all BatchNorm of a net train on its running statistics, as they are.

  Then each image goes through the net by itself, and scale and bias are learnt
  still: for fine-tuning on few images, or on small batches.
  """
  for _, module in nnx.iter_modules(net):
    if isinstance(module, BatchNorm):
      module.frozen = True


@contextlib.contextmanager
def split_over(mesh: jax.sharding.Mesh) -> Iterator[None]:
  """While a net is traced: its batch is split, in order, over these devices.

  Each device then makes mean and variance of its own part, and both cross in
  one message; those of the whole follow from them exactly. Without it the mean
  crosses first, and then the variance around it.
  """
  token = _MESH.set(mesh)
  try:
    yield
  finally:
    _MESH.reset(token)


def normalize(
  epsilon: float,
  x: typing.Array,
  scale: typing.Array,
  bias: typing.Array,
  *,
  groups: int = 1,
) -> tuple[typing.Array, typing.Array, typing.Array]:
  """Normalises with the statistics of the batch itself.

  With n rows and z = (x - mean) / sqrt(var + epsilon), the gradients are

  ```
  d_bias = sum dy,  d_scale = sum dy z
  dx = scale / sqrt(var + epsilon) * (dy - d_bias / n - z d_scale / n)
  ```

  which takes two sums over the batch, where differentiation through mean and
  variance takes four. The mean and the variance that it returns, for the
  running statistics, have no gradient. All of it holds group by group; d_bias
  and d_scale are then added.

  Args:
    epsilon: added to the variance.
    x: [batch, ..., channels].
    scale: gamma [channels].
    bias: beta [channels].
    groups: parts of the batch, in its order, that are normalised each by
      itself.

  Returns:
    y like x, mean [channels], biased variance [channels]: of groups, their
    means.

  References:
    Ioffe, Szegedy, Batch Normalization, 2015, section 3.
    Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for
      Computing Sample Variances, 1979 (of the whole from its parts).
  """
  y, mean, var = _normalized(epsilon, groups, _MESH.get(), x, scale, bias)
  if groups == 1:
    return y, mean, var
  return y, mean.mean(0), var.mean(0)


def _groups(batch: int, group: int) -> int:
  if group and batch % group:
    raise ValueError(
      f"{batch} images do not divide into groups of {group} for BatchNorm"
    )
  return batch // group if group else 1


def _split(x: typing.Array, groups: int) -> typing.Array:
  """Groups as an axis of their own; without one where there is one group."""
  return x if groups == 1 else x.reshape(groups, -1, *x.shape[1:])


def _rows(split: typing.Array, groups: int) -> tuple[int, ...]:
  """The axes that are summed over."""
  return tuple(range(0 if groups == 1 else 1, split.ndim - 1))


def _own_statistics(
  split: typing.Array, groups: int
) -> tuple[typing.Array, typing.Array]:
  """Mean and biased variance [groups, channels], or [channels] of one."""
  axes = _rows(split, groups)
  mean = split.mean(axes)
  # Not E[x^2] - E[x]^2, which loses the variance where the mean is large.
  return mean, jnp.square(split - _wide(mean, split)).mean(axes)


def _statistics(
  x: typing.Array, groups: int, mesh: jax.sharding.Mesh | None
) -> tuple[typing.Array, typing.Array]:
  """The same, from those of each device's part where groups span devices."""
  devices = 1 if mesh is None else mesh.size
  whole = devices % groups == 0 and len(x) % devices == 0
  if mesh is None or devices <= groups or not whole:
    return _own_statistics(_split(x, groups), groups)
  both = jnp.stack(_own_statistics(_split(x, devices), devices))
  # One message: [2, devices, channels].
  both = jax.lax.with_sharding_constraint(
    both, mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  )
  means, variances = both.reshape(2, groups, devices // groups, -1)
  mean = means.mean(1)
  var = variances.mean(1) + jnp.square(means - mean[:, None]).mean(1)
  return (mean[0], var[0]) if groups == 1 else (mean, var)


def _from_batch(epsilon, groups, mesh, x, scale, bias):
  mean, var = _statistics(x, groups, mesh)
  split = _split(x, groups)
  y = _scaled(split - _wide(mean, split), var, scale, bias, epsilon)
  return y.reshape(x.shape), mean, var


def _forward(epsilon, groups, mesh, x, scale, bias):
  y, mean, var = _from_batch(epsilon, groups, mesh, x, scale, bias)
  return (y, mean, var), (x, mean, var, scale)


def _backward(epsilon, groups, mesh, residuals, gradients):
  del mesh
  x, mean, var, scale = residuals
  split, dy = _split(x, groups), _split(gradients[0], groups)
  axes, count = _rows(split, groups), x.size // x.shape[-1] // groups
  factor = jax.lax.rsqrt(var + epsilon)
  centred = split - _wide(mean, split)
  d_bias = dy.sum(axes)
  d_scale = (dy * centred).sum(axes) * factor
  rest = _wide(d_bias / count, dy) + centred * _wide(
    d_scale * factor / count, dy
  )
  dx = (_wide(_wide(scale, var) * factor, dy) * (dy - rest)).reshape(x.shape)
  if groups > 1:
    d_scale, d_bias = d_scale.sum(0), d_bias.sum(0)
  return dx, d_scale, d_bias


_normalized = jax.custom_vjp(_from_batch, nondiff_argnums=(0, 1, 2))
_normalized.defvjp(_forward, _backward)


def _scaled(centred, var, scale, bias, epsilon):
  factor = jax.lax.rsqrt(var + epsilon) * _wide(scale, var)
  return centred * _wide(factor, centred) + _wide(bias, centred)


def _wide(values, split):
  """[channels] or [groups, channels], to be broadcast over the rows."""
  *groups, channels = values.shape
  ones = (1,) * (split.ndim - values.ndim)
  return values.reshape(*groups, *ones, channels)
