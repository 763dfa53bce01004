"""The beginning of a run: its own, or with the net and the classes of another."""

import dataclasses
import logging
import os
from collections.abc import Sequence

import jax
import numpy as np

from facejax.head import api as head_api
from facejax.head import carried_rows
from facejax.models import lora
from facejax.runs import card as card_lib
from facejax.runs import classes, pretrained
from facejax.runs import folder as run_folder
from facejax.runs import net as net_lib
from facejax.runtime import typing
from facejax.training import build as program_lib
from facejax.training import class_places
from facejax.training import config as config_lib
from facejax.training import state as train_state

logger = logging.getLogger(__name__)

_SHOWN = 3
# Fields of a card, and of the configuration, by which weights have names and
# shapes.
_SAME = ("net", "embedding_dim", "norm", "se")
_FIELDS = {"net": "model.name"}


def check(config: config_lib.Config) -> None:
  """Refuses a folder without such a net, unless this run has begun already.

  Raises:
    FileNotFoundError: naming the folder.
    ValueError: if it is a file, or another net lies there.
  """
  run = config.init_from
  if not run or run_folder.has_begun(config.workdir):
    return
  if os.path.isfile(run):
    raise ValueError(
      f"init_from={run!r} is a file: make the folder of a run of it,"
      f" python -m facejax.convert {run} --net {config.model.name} --workdir"
      " RUN, and name that with --init-from"
    )
  try:
    run = pretrained.located(run)
    net_lib.require(run)
    card = card_lib.read(run)
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f"init_from: {error}. Train it first, or name another with --init-from"
    ) from None
  flat = config_lib.flatten(config)
  for name in _SAME:
    field = _FIELDS.get(name, f"model.{name}")
    there, here = getattr(card, name), flat[field]
    if there != here:
      raise ValueError(
        f"init_from={run!r} holds a net with {field}={there}, and this run has"
        f" {field}={here}: give --{field.replace('_', '-')} {there}, or another"
        " --init-from"
      )
  net_lib.warn_of_pixels(run)


def state(
  config: config_lib.Config,
  program: program_lib.Program,
  names: Sequence[str],
) -> train_state.TrainState:
  """The state at step 0.

  Of another run come the weights that are verified there (their average, where
  it keeps one), the running statistics and, if asked for, prototypes. Optimizers
  and what a loss carries begin anew.

  Args:
    config: of the run.
    program: of its first stage.
    names: of its classes, without distractors.

  Raises:
    FileNotFoundError: if the other run has no checkpoint.
    OSError: if it is damaged.
    ValueError: if its net or its prototypes do not fit.
  """
  made = train_state.create(program.init, program.like, seed=config.seed)
  if not config.init_from:
    return made
  card = net_lib.read_card(config.init_from)
  step, params, stats = _weights(config, card, program)
  logger.info(
    "took the net of %s, step %d%s",
    *(config.init_from, step),
    ", the average of its weights" if card.averaged else "",
  )
  # New adapters, if it is to have any, beside the weights.
  params = lora.onto(made.params, params)
  made = train_state.with_net(made, params, stats)
  if not config.init_prototypes:
    return made
  assert program.head is not None and made.prototypes is not None
  run = config.init_from
  old = classes.read_prototypes(run, step=step, mesh=program.mesh)
  if old is None:
    raise ValueError(
      f"init_prototypes: {run!r} has no prototypes (its loss is of no classes,"
      " or they were not imported): leave --init-prototypes out"
    )
  places = _places(run, card, names, rows=old.shape[0])
  taken = _taken(run, program.head, made.prototypes, old, places)
  return dataclasses.replace(made, prototypes=taken)


def _taken(
  run: str,
  head: head_api.Head,
  fresh: jax.Array,
  old: jax.Array,
  places: np.ndarray,
) -> jax.Array:
  """The prototypes with the rows of the other run."""
  try:
    return carried_rows.carried(head, fresh, old, places)
  except ValueError as error:
    raise ValueError(
      f"init_prototypes: the classes of {run!r} have another form: {error}."
      " Sub-centres (loss.centers) and biases (loss.bias) must be as there, or"
      " leave --init-prototypes out"
    ) from None


def _weights(
  config: config_lib.Config,
  card: card_lib.Card,
  program: program_lib.Program,
) -> tuple[int, typing.Params, typing.Params]:
  """Step, weights and statistics, in the precision of this run."""
  like = lora.without(program.like.params), program.like.stats
  kept = "float64" if card.dtype == "float64" else "float32"
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, kept, sharding=leaf.sharding),
    like,
  )
  try:
    step, *weights = net_lib.read_weights(config.init_from, card, shapes)
  except ValueError as error:
    there, here = card.image_size, config.data.image_size
    size = ""
    if there != tuple(here):
      size = (
        f"\nIt takes images of {there[0]} x {there[1]}, this run has"
        f" data.image_size {here[0]} {here[1]}: the last layers of some nets see"
        " the whole image, and keep its size"
      )
    raise ValueError(f"init_from={config.init_from!r}: {error}{size}") from None
  params, stats = jax.tree.map(
    lambda leaf, wanted: leaf.astype(wanted.dtype), tuple(weights), like
  )
  return step, params, stats


def _places(
  run: str, card: card_lib.Card, names: Sequence[str], *, rows: int
) -> np.ndarray:
  """The old row of each class; tells how many were found."""
  places, old = class_places.find(
    "init_prototypes", run, card, names, rows=rows
  )
  if old is None:
    logger.warning(
      "prototypes of %s: %s kept in their order, for it does not name its"
      " classes (no %s)",
      *(run, f"{len(names):,}", run_folder.CLASSES),
    )
    return places
  gone = np.ones(len(old), bool)
  gone[places[places >= 0]] = False
  new, dropped = np.flatnonzero(places < 0), np.flatnonzero(gone)
  logger.info(
    "prototypes of %s by name: %s kept, %s new%s, %s dropped%s",
    *(run, f"{len(names) - len(new):,}"),
    *(f"{len(new):,}", _such_as(names, new)),
    *(f"{len(dropped):,}", _such_as(old, dropped)),
  )
  if all(name.isdecimal() for name in (*old, *names)):
    logger.warning(
      "the classes are called by numbers: taken for the same people where the"
      " numbers are the same"
    )
  return places


def _such_as(names: Sequence[str], places: np.ndarray) -> str:
  if not len(places):
    return ""
  shown = ", ".join(names[int(place)] for place in places[:_SHOWN])
  return f" ({shown}{', …' if len(places) > _SHOWN else ''})"
