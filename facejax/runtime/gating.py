"""Updates that are taken or left as a whole, decided on the devices."""

from typing import TypeVar

import jax
import jax.numpy as jnp

from facejax.runtime import typing

Tree = TypeVar("Tree")


def taken_if(good: typing.Array, new: Tree, old: Tree) -> Tree:
  """The new arrays where `good`, else the old ones; counts move on anyway.

  A count of steps says how many there were, which does not depend on what they
  did: whole numbers are always the new ones.

  Args:
    good: bool, a scalar.
    new: tree of arrays.
    old: of the same shapes.

  >>> new, old = {"w": jnp.ones(2), "count": 8}, {"w": jnp.zeros(2), "count": 7}
  >>> left = taken_if(jnp.asarray(False), new, old)
  >>> left["w"].tolist(), int(left["count"])
  ([0.0, 0.0], 8)
  """

  def choose(new: typing.Array, old: typing.Array) -> typing.Array:
    if not jnp.issubdtype(jnp.result_type(new), jnp.inexact):
      return new
    return jnp.where(good, new, old)

  return jax.tree.map(choose, new, old)
