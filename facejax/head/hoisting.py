"""Takes what is one number a step out of a function of whole blocks.

A kernel works on blocks; the learning rate that a schedule gives, or Adam's
powers of its decay, are the same for all blocks and are made before it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from facejax.runtime import typing


def hoist(
  function: Callable[..., list[typing.Array]],
  blocks: Sequence[jax.ShapeDtypeStruct],
) -> tuple[list[typing.Array], Callable[..., list[typing.Array]]]:
  """Splits a function into what depends on its blocks and what does not.

  Args:
    function: of arrays shaped like `blocks`; it may hold arrays of its own.
    blocks: the shapes of its arguments.

  Returns:
    Numbers, none a boolean, that do not depend on the arguments; a function
    (numbers, *blocks) that needs nothing else.

  Raises:
    ValueError: if the function holds an array that is more than a number.

  >>> factor = jnp.float32(3)
  >>> block = jnp.ones((2, 2))
  >>> numbers, rest = hoist(lambda x: [x * (factor**2 + 1)], [block])
  >>> float(numbers[0]), float(rest(numbers, block)[0].sum())
  (10.0, 40.0)
  """
  closed: Any = jax.make_jaxpr(function)(*blocks)
  jaxpr = closed.jaxpr
  early, late = _divide(jaxpr)
  # What the second part reads of the first.
  read = [v for e in late for v in e.invars] + jaxpr.outvars
  made = [*jaxpr.constvars, *(v for e in early for v in e.outvars)]
  crossing = list(dict.fromkeys(v for v in made if _is_in(v, read)))
  large = [v.aval.shape for v in crossing if v.aval.shape]
  if large:
    raise ValueError(
      f"the optimizer holds an array {large[0]} of its own, which"
      " implementation='pallas' cannot take along: use fused"
    )
  first = jaxpr.replace(invars=[], outvars=crossing, eqns=early)
  numbers = core.jaxpr_as_fun(core.ClosedJaxpr(first, closed.consts))()
  second = jaxpr.replace(
    constvars=[], invars=[*crossing, *jaxpr.invars], eqns=late
  )

  def rest(
    numbers: Sequence[typing.Array], *blocks: typing.Array
  ) -> list[typing.Array]:
    back = [
      number != 0 if v.aval.dtype == bool else number
      for v, number in zip(crossing, numbers, strict=True)
    ]
    return core.jaxpr_as_fun(core.ClosedJaxpr(second, []))(*back, *blocks)

  return [_number(value) for value in numbers], rest


def _divide(jaxpr: Any) -> tuple[list[Any], list[Any]]:
  """Equations that make numbers of numbers, and all others."""
  known, early, late = list(jaxpr.constvars), [], []
  for equation in jaxpr.eqns:
    inputs = (v for v in equation.invars if not isinstance(v, core.Literal))
    scalar = not any(v.aval.shape for v in equation.outvars)
    if scalar and all(_is_in(v, known) for v in inputs):
      early.append(equation)
      known += equation.outvars
    else:
      late.append(equation)
  return early, late


def _is_in(variable: Any, variables: Sequence[Any]) -> bool:
  """Whether it is one of them; literals are equal to nothing."""
  return any(variable is other for other in variables)


def _number(value: typing.Array) -> typing.Array:
  """Booleans as integers, which a kernel's scalar memory takes."""
  return value.astype(jnp.int32) if value.dtype == bool else value
