"""Which optimizers can work on a few rows of the prototypes at a time."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax.runtime import typing

_HALF = 128  # rows; some transformations treat small matrices otherwise
_STEPS = 3  # the first may have a learning rate of 0


def class_leaves(
  tx: optax.GradientTransformation, prototypes: typing.Array
) -> Any:
  """The tree of `tx.init(prototypes)` with True where a leaf has class rows.

  Found from what one more row changes, so that a leaf whose length happens to
  equal the number of classes is not taken for one.

  >>> w = jnp.zeros((5, 2))
  >>> jax.tree.leaves(class_leaves(optax.adam(0.1), w))
  [False, True, True]
  """
  rows, *rest = prototypes.shape
  # Shapes alone: nothing is allocated, even for a billion rows.
  actual, longer = (
    jax.eval_shape(
      tx.init, jax.ShapeDtypeStruct((length, *rest), prototypes.dtype)
    )
    for length in (rows, rows + 1)
  )
  return jax.tree.map(lambda a, b: a.shape[:1] != b.shape[:1], actual, longer)


def class_rows(state: Any, by_class: Any) -> list[typing.Array]:
  """The leaves with class rows; `by_class` is the tree of `class_leaves`."""
  pairs = zip(jax.tree.leaves(by_class), jax.tree.leaves(state), strict=True)
  return [leaf for has_rows, leaf in pairs if has_rows]


def with_class_rows(
  state: Any, by_class: Any, rows: Sequence[typing.Array]
) -> Any:
  """The state with the leaves of `class_rows` replaced."""
  remaining = iter(rows)
  return jax.tree.map(
    lambda has_rows, leaf: next(remaining) if has_rows else leaf,
    by_class,
    state,
  )


@functools.lru_cache(maxsize=64)
def require(tx: optax.GradientTransformation, *, dim: int) -> None:
  """Refuses an optimizer whose rows depend on each other.

  Runs it on a small matrix and on the two halves of it, with ordinary
  gradients, huge ones (past any clipping threshold) and a NaN in one row. What
  happens to a row must not depend on the other rows, and what is shared by
  all rows (step counts) not on the gradient.

  Args:
    tx: the optimizer of the prototypes.
    dim: length of a prototype.

  Raises:
    ValueError: naming the stage of the chain, where that can be told.
  """
  # For real, although a step may be under trace: the answer decides what is
  # traced.
  with jax.ensure_compile_time_eval():
    if _by_rows(tx, dim):
      return
    culprits = [
      _name(stage) for stage in _stages(tx) if not _by_rows(stage, dim)
    ]
  where = f" (in {', '.join(culprits)})" if culprits else ""
  raise ValueError(
    f"the fused head updates prototypes a block at a time, but what the"
    f" optimizer does to one class depends on others{where}: take that out of"
    f" the head's optimizer or choose an implementation that is not fused"
  )


def _by_rows(tx: optax.GradientTransformation, dim: int) -> bool:
  """Whether what happens to a row is the same with and without the others."""
  update = jax.jit(tx.update)
  rng = np.random.default_rng(0)
  shape = (2 * _HALF, dim)
  params = rng.normal(size=shape).astype(np.float32)
  # 1e15 is past any threshold of clipping. A NaN in other rows comes of a
  # global norm, or of a step that is skipped as a whole.
  for magnitude, spoilt in ((1.0, False), (1e15, False), (1.0, True)):
    gradients = magnitude * rng.normal(size=(_STEPS, *shape))
    if spoilt:
      gradients[:, 0] = np.nan
    gradients = gradients.astype(np.float32)
    try:
      whole, *halves = (
        _run(tx.init, update, params[rows], gradients[:, rows])
        for rows in (slice(None), slice(_HALF), slice(_HALF, None))
      )
    except (TypeError, ValueError):  # holds an array of the full shape
      return False
    if not _agree(whole, *halves):
      return False
  return True


def _run(
  init: Callable[..., Any],
  update: Callable[..., Any],
  params: np.ndarray,
  gradients: np.ndarray,
) -> list[np.ndarray]:
  """Updates and states of a few steps, from gradients [steps, rows, dim]."""
  state, history = init(jnp.asarray(params)), []
  for gradient in gradients:
    updates, state = update(jnp.asarray(gradient), state, jnp.asarray(params))
    history.append((updates, state))
  return [np.asarray(leaf) for leaf in jax.tree.leaves(history)]


def _agree(
  whole: list[np.ndarray], first: list[np.ndarray], second: list[np.ndarray]
) -> bool:
  """Whether the halves' leaves are the halves of the whole's leaves."""
  # A leaf with class rows is as long as its matrix, half as long for each half;
  # what is shared by all rows must be the same in all three.
  for all_rows, *halves in zip(whole, first, second, strict=True):
    if all_rows.shape == halves[0].shape:
      wanted = [all_rows, all_rows]
    else:
      wanted = [all_rows[:_HALF], all_rows[_HALF:]]
    for half, want in zip(halves, wanted, strict=True):
      if half.shape != want.shape or not np.allclose(
        half, want, rtol=1e-5, atol=0, equal_nan=True
      ):
        return False
  return True


def _stages(
  tx: optax.GradientTransformation,
) -> list[optax.GradientTransformation]:
  """The links of an `optax.chain`, at any depth; else the transformation."""
  # optax keeps the links in the closures of the functions that it returns.
  held = _closure(tx.update)
  inits = _closure(tx.init).get("init_fns")
  if "update_fns" in held and inits:
    pairs = zip(inits, held["update_fns"], strict=True)
    links = [optax.GradientTransformation(*pair) for pair in pairs]
    return [stage for link in links for stage in _stages(link)]
  inner = held.get("tx")
  if isinstance(inner, optax.GradientTransformation):
    return _stages(inner)
  return [tx]


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
  """The variables that a function keeps of where it was made, by name."""
  function = inspect.unwrap(function)
  if not inspect.isfunction(function):
    return {}
  return dict(inspect.getclosurevars(function).nonlocals)


def _name(tx: optax.GradientTransformation) -> str:
  """The function that made it: "clip_by_global_norm"."""
  return getattr(tx.update, "__qualname__", repr(tx.update)).split(".")[0]
