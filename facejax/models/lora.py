"""Low-rank adapters: a trained net that learns little matrices beside its own.

Each kernel of a linear or convolution layer, as a matrix W of inputs (of a
convolution the window times the channels) by outputs, gets two more, A [inputs, r]
and B [r, outputs]:

  y = x (W + (alpha / r) A B)

W is kept as it was. B begins at 0, so that the net begins as it was, too. Once
trained, the sum is a kernel like any other: `merged`.

References:
  Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from facejax.models import functional
from facejax.runtime import typing

# Beside the kernel of a layer; the last parts of the names of weights.
ADAPTERS = ("lora_a", "lora_b")
_KERNEL = "kernel"
# Of the keys that adapters are drawn with, apart from those of the net.
_KEY = 0x10FA


def adapted(
  backbone: functional.Backbone, *, rank: int, alpha: float = 16.0
) -> functional.Backbone:
  """The net with adapters at all its kernels; the same net for rank 0.

  Its weights are those of the net with `lora_a` [..., r] and `lora_b` [r, outputs]
  beside each `kernel`; r is the rank, or the lesser side of a matrix that is
  smaller. Only adapters have a gradient: kernels, biases, slopes and norms have
  0. BatchNorm's running statistics are updated as ever.

  Args:
    backbone: the net.
    rank: r >= 0.
    alpha: above 0; alpha / r is how much the adapters count.

  Raises:
    ValueError: if the net has no kernels.
  """
  if not rank:
    return backbone

  def init(key: typing.PRNGKey) -> tuple[typing.Params, typing.Params]:
    params, stats = backbone.init(key)
    return _with_adapters(params, rank, jax.random.fold_in(key, _KEY)), stats

  def apply(params: typing.Params, *args: Any, **options: Any) -> Any:
    return backbone.apply(
      merged(_held_but_adapters(params), alpha=alpha), *args, **options
    )

  return dataclasses.replace(backbone, init=init, apply=apply)


def merged(params: typing.Params, *, alpha: float) -> typing.Params:
  """The weights of the net alone, with W + (alpha / r) A B as its kernels."""

  def merge(layer: dict[str, Any]) -> dict[str, Any]:
    kernel, (a, b) = layer[_KERNEL], (layer[name] for name in ADAPTERS)
    # Exact where accelerators would round operands: what is merged is kept.
    product = jnp.matmul(
      a.reshape(-1, a.shape[-1]), b, precision=jax.lax.Precision.HIGHEST
    )
    change = alpha / a.shape[-1] * product.reshape(kernel.shape)
    return {**_without(layer), _KERNEL: kernel + change.astype(kernel.dtype)}

  return _at_kernels(params, merge, having=ADAPTERS)


def without(params: typing.Params) -> typing.Params:
  """The weights of the net alone, as they are without the adapters."""
  return _at_kernels(params, _without, having=ADAPTERS)


def like(params: typing.Params, *, rank: int) -> typing.Params:
  """Weights of a net as `ShapeDtypeStruct`s, with those of the adapters."""

  def add(layer: dict[str, Any]) -> dict[str, Any]:
    kernel = layer[_KERNEL]
    pair = (
      jax.ShapeDtypeStruct(shape, kernel.dtype, sharding=kernel.sharding)
      for shape in _shapes(kernel, rank)
    )
    return {**layer, **dict(zip(ADAPTERS, pair, strict=True))}

  return _at_kernels(params, add)


def onto(params: typing.Params, base: typing.Params) -> typing.Params:
  """Other weights of the net, with the adapters of `params`, if it has any."""
  if not isinstance(params, dict):
    return base
  return {
    name: leaf if name in ADAPTERS else onto(leaf, base[name])
    for name, leaf in params.items()
  }


def count(params: typing.Params) -> int:
  """Numbers in the adapters; 0 for a net without."""
  return functional.count(params) - functional.count(without(params))


def _with_adapters(
  params: typing.Params, rank: int, key: typing.PRNGKey
) -> typing.Params:
  """A ~ N(0, 1 / inputs) and B = 0 beside each kernel."""
  drawn = 0

  def add(layer: dict[str, Any]) -> dict[str, Any]:
    nonlocal drawn
    kernel = layer[_KERNEL]
    a, b = _shapes(kernel, rank)
    inputs = math.prod(a[:-1])
    own = jax.random.fold_in(key, drawn)
    drawn += 1
    noise = jax.random.normal(own, a, kernel.dtype)
    pair = (noise / inputs**0.5, jnp.zeros(b, kernel.dtype))
    return {**layer, **dict(zip(ADAPTERS, pair, strict=True))}

  found = _at_kernels(params, add)
  if not drawn:
    raise ValueError(
      f"model.lora={rank}: this net has no kernels (weights named 'kernel') to"
      " adapt; leave it at 0"
    )
  return found


def _shapes(kernel: Any, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Of A and B."""
  *window, outputs = kernel.shape
  r = min(rank, math.prod(window), outputs)
  return (*window, r), (r, outputs)


def _held_but_adapters(params: typing.Params) -> typing.Params:
  """The same without a gradient for what adapters leave as it is."""

  def held(path: Any, leaf: typing.Array) -> typing.Array:
    name = getattr(path[-1], "key", None)
    return leaf if name in ADAPTERS else jax.lax.stop_gradient(leaf)

  return jax.tree_util.tree_map_with_path(held, params)


def _without(layer: dict[str, Any]) -> dict[str, Any]:
  return {n: leaf for n, leaf in layer.items() if n not in ADAPTERS}


def _at_kernels(
  params: Any,
  change: Callable[[dict[str, Any]], dict[str, Any]],
  *,
  having: tuple[str, ...] = (),
) -> Any:
  """The tree with each layer changed that has a kernel, and `having`."""
  if not isinstance(params, dict):
    return params
  layer = {
    name: _at_kernels(part, change, having=having)
    for name, part in params.items()
  }
  matrix = _KERNEL in layer and getattr(layer[_KERNEL], "ndim", 0) > 1
  return change(layer) if matrix and set(having) <= set(layer) else layer
