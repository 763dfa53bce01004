"""Convolutions that halve a map, with gradients that are fast on CPUs too."""

from typing import Any

import jax
import jax.numpy as jnp

from facejax.runtime import typing

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolution(
  x: typing.Array,
  kernel: typing.Array,
  strides: Any,
  padding: Any,
  **options: Any,
) -> typing.Array:
  """`jax.lax.conv_general_dilated`, for flax's layers to use in its place.

  Those of stride 2 that `halve` knows go there; all others pass as they are.
  """
  size, strides = kernel.shape[:2], tuple(strides)
  known = size in ((1, 1), (3, 3)) and strides == (2, 2)
  even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
  centred = [tuple(pad) for pad in padding] == [(size[0] // 2,) * 2] * 2
  whole = kernel.shape[2] == x.shape[-1]  # channels are in no groups
  if known and even and centred and whole:
    return halve(x, kernel)
  return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)


@jax.custom_vjp
def halve(x: typing.Array, kernel: typing.Array) -> typing.Array:
  """Convolves with windows that are centred on every second pixel.

  XLA for CPUs computes the gradient of such a convolution as one over a map
  that is widened by zeros, three products in four with a zero. Here a window of
  one pixel sees the map without its odd rows and columns, and for one of 3x3
  the pixels of even and odd rows and columns, which windows touch with
  different parts of the kernel, get their gradients apart.

  Args:
    x: maps [batch, height, width, channels], of even sides.
    kernel: [1, 1, channels, out] or [3, 3, channels, out].

  Returns:
    Maps [batch, height / 2, width / 2, out].

  >>> x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
  >>> halve(x, kernel)[0, :, :, 0]
  Array([[4., 6.],
         [6., 9.]], dtype=float32)
  """
  return _plain(x, kernel)


def _plain(x, kernel, stride=2):
  pad = (kernel.shape[0] // 2,) * 2
  return jax.lax.conv_general_dilated(
    x, kernel, (stride, stride), (pad, pad), dimension_numbers=_LAYOUT
  )


def _forward(x, kernel):
  return halve(x, kernel), (x, kernel)


def _backward(residuals, d):
  on_cpu = _narrow_gradients if residuals[1].shape[0] == 1 else _by_phase
  return jax.lax.platform_dependent(
    *residuals, d, cpu=on_cpu, default=_plain_gradients
  )


halve.defvjp(_forward, _backward)


def _plain_gradients(x, kernel, d):
  return jax.vjp(_plain, x, kernel)[1](d)


def _narrow_gradients(x, kernel, d):
  def narrow(x, kernel):
    return _plain(x[:, ::2, ::2], kernel, stride=1)

  return jax.vjp(narrow, x, kernel)[1](d)


def _by_phase(x, kernel, d):
  (d_kernel,) = jax.vjp(lambda kernel: _plain(x, kernel), kernel)[1](d)
  rows = [[_phase(kernel, d, i, j) for j in (0, 1)] for i in (0, 1)]
  parts = jnp.stack([jnp.stack(row, axis=3) for row in rows], axis=2)
  return parts.reshape(x.shape), d_kernel


def _phase(kernel, d, row, column):
  """Gradient of the pixels of even (0) or odd (1) rows and columns.

  A pixel at an even place is in the middle of one window; one at an odd place
  is at the end of the window before it and at the start of that behind it.
  """
  kernel = kernel.swapaxes(2, 3)
  kernel = kernel[1:2] if row == 0 else kernel[::-2]
  kernel = kernel[:, 1:2] if column == 0 else kernel[:, ::-2]
  return jax.lax.conv_general_dilated(
    d, kernel, (1, 1), ((0, row), (0, column)), dimension_numbers=_LAYOUT
  )
