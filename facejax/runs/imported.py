"""The folder of weights that come from elsewhere: a run of no steps."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from facejax.runs import card as card_lib
from facejax.runs import checkpoint, classes, folder, run_lock
from facejax.runtime import typing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImportedWeights:
  """What is stored, at the paths that a training run has it at.

  Attributes:
    params: of the net.
    stats: its running statistics.
    prototypes: [classes, dim], or None.
  """

  params: typing.Params
  stats: typing.Params
  prototypes: np.ndarray | None = None


def write(
  run: str | os.PathLike[str],
  card: card_lib.Card,
  weights: ImportedWeights,
  *,
  names: Sequence[str] = (),
) -> None:
  """Writes the folder: a checkpoint of step 0, names of classes, and its card.

  Raises:
    ValueError: if the folder holds something, or the prototypes are of
      another size than the embeddings.
    OSError: if it cannot be written.
  """
  check_folder(run)
  prototypes = weights.prototypes
  if prototypes is not None and prototypes.shape[1] != card.embedding_dim:
    raise ValueError(
      f"class weights have {prototypes.shape[1]} numbers, embeddings"
      f" {card.embedding_dim}"
    )
  where = pathlib.Path(run, folder.CHECKPOINTS)
  with run_lock.locked(run):
    check_folder(run)  # again, now that nobody else writes there
    with checkpoint.Checkpoints(where) as checkpoints:
      checkpoints.save(0, jax.tree.map(jax.numpy.asarray, weights))
    if names:
      classes.write(run, names)
    card_lib.write(run, card)


def check_folder(run: str | os.PathLike[str]) -> None:
  """Refuses a folder that holds something.

  Raises:
    ValueError: if it does.
  """
  path = pathlib.Path(run)
  if path.is_file() or (path.is_dir() and any(folder.contents(path))):
    raise ValueError(
      f"workdir {os.fspath(run)!r} is there already: choose another with"
      " --workdir"
    )
