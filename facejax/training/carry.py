"""The state of a run from one stage to the next: what fits is kept, bit for bit.

Weights, their average and statistics are the same in all stages. Of prototypes,
of what a loss carries and of the optimizers, parts that the next stage holds in
the same form go over; others are made as at the start of a run.
"""

import dataclasses
import logging
from typing import Any

import jax
import jax.numpy as jnp
import optax

from facejax.training import build
from facejax.training import state as train_state

logger = logging.getLogger(__name__)

_PARTS = ("prototypes", "trunk_optimizer", "head_optimizer")


def check(before: build.Program, after: build.Program) -> None:
  """Refuses a stage that would lose what was trained in the one before.

  Raises:
    ValueError: if the trunk would have other weights, or the classes other
      prototypes.
  """
  here, there = before.like, after.like
  if not _alike(here.params, there.params):
    raise ValueError(
      f"{after.backbone.name} has other weights for images of"
      f" {_size(after)} than for {_size(before)}: a net whose last layers see the"
      " whole image at once keeps one size; leave data.image_size, or take a net"
      " that ends in an average"
    )
  old, new = here.prototypes, there.prototypes
  if old is not None and new is not None and not _alike(old, new):
    raise ValueError(
      f"prototypes of shape {old.shape} would become {new.shape}:"
      " a loss with a bias has a column more (loss.bias=False), one with"
      " sub-centres a dimension more; and head.storage is that of the whole run"
    )


def carried(
  state: train_state.TrainState, program: build.Program, *, seed: int
) -> train_state.TrainState:
  """The state as the program of another stage holds it.

  Args:
    state: of the stage before; its arrays go over.
    program: of the stage to come.
    seed: of the run; what is made anew follows from it.
  """
  like = program.like
  # The loss's parts stand beside the others, each on its own.
  old, new = _parts(state), _parts(like)
  missing = [name for name in new if not _alike(old[name], new[name])]
  made = _made(program, missing, seed=seed, step=state.step)
  anew = [name for name in missing if jax.tree.leaves(new[name])]
  if anew:
    logger.info("begins anew in this stage: %s", ", ".join(anew))
  found = {name: made.get(name, old[name]) for name in new}
  loss = like.loss._replace(**{n: found.pop(n) for n in like.loss._fields})
  return dataclasses.replace(state, loss=loss, **found)


def _parts(state: train_state.TrainState) -> dict[str, Any]:
  return {
    **{name: getattr(state, name) for name in _PARTS},
    **state.loss._asdict(),
  }


def _made(
  program: build.Program, names: list[str], *, seed: int, step: Any
) -> dict[str, Any]:
  """Parts of a state at step 0, each made on the device where it lives.

  Their schedules go on from the step that the run is at.
  """

  def make(key, step):
    parts = _parts(program.init(key))
    return {name: _at_step(parts[name], step) for name in names}

  shardings = jax.tree.map(
    lambda leaf: leaf.sharding, {n: _parts(program.like)[n] for n in names}
  )
  return jax.jit(make, out_shardings=shardings)(jax.random.key(seed), step)


def _at_step(part: Any, step: Any) -> Any:
  """An optimizer's state whose schedule has come to a step; else unchanged."""

  def is_schedule(node: Any) -> bool:
    return isinstance(node, optax.ScaleByScheduleState)

  return jax.tree.map(
    lambda node: (
      node._replace(count=jnp.asarray(step, node.count.dtype))
      if is_schedule(node)
      else node
    ),
    part,
    is_leaf=is_schedule,
  )


def _alike(here: Any, there: Any) -> bool:
  """Whether two trees have the same form, shapes and types."""
  if jax.tree.structure(here) != jax.tree.structure(there):
    return False
  pairs = zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True)
  return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def _size(program: build.Program) -> str:
  height, width = program.backbone.image_size
  return f"{height} x {width}"
