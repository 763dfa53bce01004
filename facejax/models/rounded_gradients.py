"""Linear layers whose gradient is bfloat16 where it crosses between devices."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from facejax.runtime import typing


def use(net: nnx.Module) -> None:
  """Rounds the kernels' gradients of all linear layers that compute in float32.

  Each device rounds the sum over its own images, and those are added. Layers
  that compute in bfloat16, convolutions among them, do so by themselves.
  """
  for _, module in nnx.iter_modules(net):
    if isinstance(module, nnx.Linear) and module.dtype != jnp.bfloat16:
      module.dot_general = dot


def dot(
  x: typing.Array, kernel: typing.Array, dimensions: Any, **options: Any
) -> typing.Array:
  """`jax.lax.dot_general` of rows with a matrix, as nnx.Linear calls it.

  y = x W. The gradient by x is the exact one, dy W^T; that by W is x^T dy,
  summed in float32 and rounded once, before devices add theirs.

  Args:
    x: [..., inputs].
    kernel: [inputs, outputs].
    dimensions: that the last of x meets the first of the kernel.
    **options: of `dot_general`.
  """

  @jax.custom_vjp
  def product(x, kernel):
    return lax.dot_general(x, kernel, dimensions, **options)

  def forward(x, kernel):
    return product(x, kernel), (x, kernel)

  def backward(saved, dy):
    x, kernel = saved
    dx = dy @ kernel.T
    rows = x.reshape(-1, x.shape[-1])
    # The product itself has this type: a cast after it would come after the
    # sum over devices.
    dw = lax.dot_general(
      rows,
      dy.reshape(-1, dy.shape[-1]),
      (((0,), (0,)), ((), ())),
      preferred_element_type=jnp.bfloat16,
    )
    return dx.astype(x.dtype), dw.astype(kernel.dtype)

  product.defvjp(forward, backward)
  return product(x, kernel)
