"""Nets of one's own: by an entry point, or as package.module:function.

What is named makes a Flax NNX module from images to embeddings, as a function
or as its class:

  make(*, embedding_dim, image_size, dropout, dtype, rngs) -> nnx.Module

Images are [batch, height, width, 3] in [-1, 1], RGB, of the type `dtype`;
embeddings [batch, embedding_dim]. An export traces it for any batch: that is
`images.shape[0]`, for which `len(images)` is no substitute. `rngs` gives the
keys of the weights and nothing else: a module that drops at random is a
`trunk.Net`, whose `features` gets the key of the step. Weights are `nnx.Param`,
statistics `nnx.BatchStat`.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from facejax.models import batch_norm, trunk
from facejax.runtime import typing

# Entry points of packages, by the name of the net.
GROUP = "facejax.nets"
# Environment: nets module:function that the cards of runs may name.
VARIABLE = "FACEJAX_NETS"


@dataclasses.dataclass(frozen=True)
class OwnNet:
  """The spec of a net that is not of this package.

  Attributes:
    name: that it was found by.
    make: see above.
  """

  name: str
  make: Callable[..., Any]


class _Plain(trunk.Net):
  """A module that knows images alone, as a net."""

  embedding_bn: batch_norm.BatchNorm | None

  def __init__(self, inner: nnx.Module):
    self.inner = inner
    self.embedding_bn = None

  def features(
    self, images: typing.Array, *, dropout_key: typing.PRNGKey | None
  ) -> typing.Array:
    del dropout_key
    call: Any = self.inner
    x = call(images)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def names() -> list[str]:
  """The nets that installed packages bring."""
  return sorted(importlib.metadata.entry_points(group=GROUP).names)


@functools.cache
def find(name: str) -> OwnNet | None:
  """The net of this name; None where nobody brings it.

  A name with a colon is package.module:function: the module is imported, which
  runs its code.

  Raises:
    ValueError: if it cannot be loaded, or is nothing to be called.
  """
  points = importlib.metadata.entry_points(group=GROUP)
  module, colon, attribute = name.partition(":")
  try:
    if name in points.names:
      make = next(iter(points.select(name=name))).load()
    elif colon:
      make = getattr(importlib.import_module(module), attribute)
    else:
      return None
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"net {name!r} cannot be loaded: {error}. It is package.module:function of"
      " a module that Python finds: install it, or put its folder on PYTHONPATH"
    ) from error
  if not callable(make):
    raise ValueError(
      f"net {name!r} is a {type(make).__name__}: name a function or a class that"
      " makes the module"
    )
  return OwnNet(name, make)


def check_trusted(name: str) -> None:
  """Refuses to import what a file alone asks for.

  Raises:
    ValueError: with the variable that allows it.
  """
  allowed = os.environ.get(VARIABLE, "").replace(",", " ").split()
  if ":" in name and name not in allowed and name not in names():
    raise ValueError(
      f"the net is {name!r}, which is code of its own, and a file is no reason to"
      f" run it: if you know it, set {VARIABLE}={name}"
    )


def module(
  spec: OwnNet,
  *,
  embedding_dim: int,
  image_size: tuple[int, int],
  dropout: float,
  dtype: Any,
  rngs: Any,
) -> trunk.Net:
  """The module of a net.

  Raises:
    ValueError: if what was made is no module.
  """
  made = spec.make(
    embedding_dim=embedding_dim,
    image_size=image_size,
    dropout=dropout,
    dtype=dtype,
    rngs=rngs,
  )
  if isinstance(made, trunk.Net):
    return made
  if not isinstance(made, nnx.Module) or not callable(made):
    raise ValueError(
      f"net {spec.name!r} made a {type(made).__name__}: it must be a"
      " flax.nnx.Module that is called with images"
    )
  return _Plain(made)


def multiply_adds(
  spec: OwnNet, *, embedding_dim: int, image_size: tuple[int, int]
) -> int:
  """Half of the operations that the compiler counts for one image.

  Unlike those of the other nets they contain what is no product.

  Raises:
    ValueError: if what comes out are no embeddings of that size.
  """

  def create() -> trunk.Net:
    return module(
      spec,
      embedding_dim=embedding_dim,
      image_size=image_size,
      dropout=0.0,
      dtype=jnp.float32,
      rngs=nnx.Rngs(0),
    )

  graph, state = nnx.split(nnx.eval_shape(create))

  def embed(state: Any, images: typing.Array) -> typing.Array:
    net = nnx.merge(graph, state)
    net.eval()
    return net(images)

  images = jax.ShapeDtypeStruct((2, *image_size, 3), jnp.float32)
  lowered = jax.jit(embed).lower(state, images)
  out: Any = lowered.out_info
  if out.shape != (2, embedding_dim) or out.dtype != jnp.float32:
    raise ValueError(
      f"net {spec.name!r} makes {out.dtype}{list(out.shape)} of 2 images: it must"
      f" be float32[2, {embedding_dim}], an embedding of model.embedding_dim"
      " numbers for each"
    )
  cost: Any = lowered.cost_analysis()
  return int(cost["flops"]) // 4
