"""Pooling over 3x3 windows and normalisation across channels.

Windows are padded by half their width on both sides, so that a map of n
pixels becomes one of ceil(n / stride).
"""

import functools

import jax
import jax.numpy as jnp

from facejax.runtime import typing

# Under the root of L2 pooling: negligible beside any pixel, but it makes the
# gradient of a window of zeros 0 instead of NaN.
_EPSILON = 1e-12


def max_pool(
  x: typing.Array, *, stride: int = 1, pad: bool = True
) -> typing.Array:
  """The largest of each 3x3 window.

  Args:
    x: maps [batch, height, width, channels].
    stride: of the windows.
    pad: False takes whole windows alone, the first at the corner.

  >>> max_pool(jnp.arange(9.0).reshape(1, 3, 3, 1), stride=2)[0, :, :, 0]
  Array([[4., 5.],
         [7., 8.]], dtype=float32)
  """
  # Slices instead of `reduce_window`, whose gradient is a scatter that takes
  # eight times as long on CPUs.
  for axis in (1, 2):
    padding = -jnp.inf if pad else None
    neighbours = _neighbours(x, axis=axis, stride=stride, padding=padding)
    x = functools.reduce(jnp.maximum, neighbours)
  return x


def mean_pool(x: typing.Array) -> typing.Array:
  """The mean of each whole 2x2 window, the first at the corner, stride 2.

  Args:
    x: maps [batch, height, width, channels].

  >>> mean_pool(jnp.arange(6.0).reshape(1, 2, 3, 1))[0, :, :, 0]
  Array([[2.]], dtype=float32)
  """
  batch, height, width, channels = x.shape
  rows, columns = height // 2, width // 2
  whole = jax.lax.slice(
    x, (0, 0, 0, 0), (batch, 2 * rows, 2 * columns, channels)
  )
  return whole.reshape(batch, rows, 2, columns, 2, channels).mean((2, 4))


def l2_pool(x: typing.Array, *, stride: int = 1) -> typing.Array:
  """The length of each 3x3 window: y = sqrt(sum x^2), a sum and not a mean.

  Args:
    x: maps [batch, height, width, channels].
    stride: of the windows.

  References:
    Schroff, Kalenichenko, Philbin, FaceNet: A Unified Embedding for Face
      Recognition and Clustering, 2015 ("L2" in its Table 2).

  >>> l2_pool(jnp.ones((1, 3, 3, 1)))[0, 1, 1].tolist()
  [3.0]
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  square = wide * wide
  for axis in (1, 2):
    square = sum(_neighbours(square, axis=axis, stride=stride, padding=0))
  return jnp.sqrt(square + _EPSILON).astype(x.dtype)


def local_response_norm(
  x: typing.Array, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> typing.Array:
  """Divides each value by the strength of the channels around it.

  y_c = x_c / (1 + alpha / size * sum of x^2 over `size` channels about c)^beta,
  as Caffe and torch define it; TensorFlow does not divide alpha by the size.

  Args:
    x: maps [..., channels].
    size: channels of a window, an odd number.
    alpha: see above.
    beta: see above.

  References:
    Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep
      Convolutional Neural Networks, 2012.

  >>> [round(float(v), 3) for v in local_response_norm(jnp.array([100.0, 0.0]))]
  [87.22, 0.0]
  """
  wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  ones = (1,) * (x.ndim - 1)
  strength = jax.lax.reduce_window(
    wide * wide, 0.0, jax.lax.add, (*ones, size), (*ones, 1), "SAME"
  )
  return (wide * (1 + alpha / size * strength) ** -beta).astype(x.dtype)


def check_sides(
  image_size: tuple[int, int], least: int, *, published: str
) -> None:
  """Refuses images of which halving leaves nothing.

  Args:
    image_size: (height, width).
    least: pixels that each side must have.
    published: size of the paper, for the message.

  Raises:
    ValueError: if a side is shorter.
  """
  if min(image_size) < least:
    raise ValueError(
      f"image_size {tuple(image_size)}: both sides must be at least {least} for"
      f" this net ({published} as published)"
    )


def reduced(size: tuple[int, int], stride: int) -> tuple[int, int]:
  """(height, width) of a map after a layer of this stride, rounded up.

  >>> reduced((55, 28), 2)
  (28, 14)
  """
  return -(-size[0] // stride), -(-size[1] // stride)


def _neighbours(x, *, axis: int, stride: int, padding: float | None) -> list:
  """The left, own and right pixel of every window along one axis."""
  widths = [(0, 0)] * x.ndim
  if padding is None:
    padded = x
  else:
    widths[axis] = (1, 1)
    padded = jnp.pad(x, widths, constant_values=padding)
  last = (padded.shape[axis] - 3) // stride * stride
  return [
    jax.lax.slice_in_dim(padded, i, i + last + 1, stride, axis)
    for i in range(3)
  ]
