"""An optimizer's step in two stages: first its own rows, then the prototypes.

XLA's kernels for a GPU or a CPU write one array in place each. Whoever comes second
finds the first already changed, so the prototypes come second and are made from
the optimizer's new rows as they then stand: w <- w - lr v with v the momentum
just written. Where new prototypes need old rows too (Lion), there is no such
order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from facejax.runtime import typing


class Stages(NamedTuple):
  """Both halves of a step (dw, rows, w) -> [new w, *new rows].

  Attributes:
    rows: (dw, rows, w) -> new rows.
    prototypes: (dw, new rows, w) -> new w.
  """

  rows: Callable[..., list[typing.Array]]
  prototypes: Callable[..., typing.Array]


def split(
  step: Callable[..., list[typing.Array]],
  d_w: typing.Array,
  rows: Sequence[typing.Array],
  w: typing.Array,
) -> Stages | None:
  """The stages of a step, from its trace with such arguments.

  None where new prototypes need old rows, or new rows old ones of others.
  """
  traced = jax.make_jaxpr(step)(d_w, list(rows), w)
  program = traced.jaxpr
  new_w, *new_rows = program.outvars
  first, *old_rows, last = program.invars
  for own, new in zip(old_rows, new_rows, strict=True):
    if _behind(program, new, [])[1].intersection(old_rows) - {own}:
      return None
  equations, needed = _behind(program, new_w, new_rows)
  if needed.intersection(old_rows):
    return None
  second = program.replace(
    invars=[first, *new_rows, last], outvars=[new_w], eqns=equations
  )

  def run(program: Any, *arguments: typing.Array) -> list[typing.Array]:
    closed = core.ClosedJaxpr(program, traced.consts)
    return core.jaxpr_as_fun(closed)(*arguments)

  return Stages(
    lambda d_w, rows, w: run(program, d_w, *rows, w)[1:],
    lambda d_w, rows, w: run(second, d_w, *rows, w)[0],
  )


def _behind(
  program: Any, result: Any, known: Sequence[Any]
) -> tuple[list[Any], set[Any]]:
  """The equations that a result needs where others are known, and variables."""
  needed, equations = {result}, []
  for equation in reversed(program.eqns):
    if needed.difference(known).intersection(equation.outvars):
      equations.append(equation)
      needed.update(v for v in equation.invars if isinstance(v, core.Var))
  return equations[::-1], needed
