"""Verification of a net while it is trained, and what a run leaves of it."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import kept, pair_results, transfer, verification
from facejax.metrics import verification as metrics
from facejax.runs import metrics_file, results
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib

# Draws of each bootstrap in the report: fewer than facejax.evaluate takes.
_SAMPLES = 200

logger = logging.getLogger(__name__)


class Interrupted(Exception):
  """Something else became urgent while images were embedded."""


class State(Protocol):
  """What is verified of the state of a run."""

  @property
  def step(self) -> Any: ...

  @property
  def params(self) -> Any: ...

  @property
  def stats(self) -> Any: ...

  @property
  def average(self) -> Any: ...


@dataclasses.dataclass
class Verifier:
  """Scores the states of a run; that this fails never ends the run.

  Attributes:
    embed: see `verify`; the next five likewise.
    pairs: …
    threshold_pairs: …
    mesh: …
    batch_size: …
    urgent: …
    failed: the steps whose verification failed, as the log says.
  """

  embed: Callable[..., Any]
  pairs: Sequence[pair_sets.PairSet]
  threshold_pairs: pair_sets.PairSet | None
  mesh: jax.sharding.Mesh
  batch_size: int
  urgent: Callable[[], bool]
  failed: list[int] = dataclasses.field(default_factory=list)

  def __call__(self, state: State) -> list[verification.Verification] | None:
    """Scores a state: [] if that failed, None if something was urgent."""
    try:
      return verify(
        self.embed,
        net_lib.Trunk(state.params, state.stats, state.average),
        self.pairs,
        self.threshold_pairs,
        mesh=self.mesh,
        batch_size=self.batch_size,
        urgent=self.urgent,
      )
    except Interrupted:
      return None
    except Exception as error:
      step = int(state.step)
      self.failed.append(step)
      logger.error(
        "the verification of step %d failed: %s",
        *(step, error),
        # Of the images, or a mistake in here?
        exc_info=not isinstance(error, ValueError | OSError),
      )
      return []


def check(
  pairs: Sequence[pair_sets.PairSet],
  threshold_pairs: pair_sets.PairSet | None = None,
) -> None:
  """Refuses pairs that could not be scored, before anything is trained.

  Raises:
    ValueError: if a set has none, all are of one kind or in one fold, or two
      sets would be written to one file.
  """
  files: dict[str, str] = {}
  for one in every(pairs, threshold_pairs):
    verification.check(one)
    file = results.file_name(one.name)
    if file in files:
      raise ValueError(
        f"two sets of pairs would be reported as {one.name!r}: rename the file"
        " of one, or name it once"
      )
    files[file] = one.name


def every(
  pairs: Sequence[pair_sets.PairSet], threshold_pairs: pair_sets.PairSet | None
) -> list[pair_sets.PairSet]:
  """All sets that are scored, in the order of `verify`."""
  return [*pairs, *([] if threshold_pairs is None else [threshold_pairs])]


def verify(
  embed: Callable[..., Any],
  net: net_lib.Trunk,
  pairs: Sequence[pair_sets.PairSet],
  threshold_pairs: pair_sets.PairSet | None = None,
  *,
  mesh: jax.sharding.Mesh,
  batch_size: int,
  urgent: Callable[[], bool] = lambda: False,
) -> list[verification.Verification]:
  """Scores pair sets; [] without any.

  The first result is the one to quote first. Where a threshold is chosen on one
  more set, accuracy at it is among the metrics of all others, and that set's own
  result is the last.

  Args:
    embed: of `models.embed.make_embed`, mirror image included.
    net: weights and statistics, on the mesh.
    pairs: what to verify on.
    threshold_pairs: what a threshold for all of them is chosen on.
    mesh: the devices.
    batch_size: images at once; rounded up to the devices.
    urgent: asked before each batch whether to break off.

  Raises:
    Interrupted: if it was urgent.
    ValueError: if an embedding is zero or not finite, or the pairs are all of
      one kind.
  """
  if not pairs:
    return []

  def embed_batch(images: np.ndarray) -> np.ndarray:
    if urgent():
      raise Interrupted
    placed = mesh_lib.put_batch({"images": images}, mesh)
    return np.asarray(embed(net.verified, net.stats, placed["images"]))

  size = -(-batch_size // mesh.size) * mesh.size

  def score(chosen: pair_sets.PairSet, threshold: float | None = None):
    return verification.evaluate_pairs(
      embed_batch, chosen, batch_size=size, threshold=threshold
    )

  if threshold_pairs is None:
    return [score(one) for one in pairs]
  chosen_on = score(threshold_pairs)
  threshold = metrics.best_threshold(chosen_on.scores, chosen_on.same)
  return [*(score(one, threshold) for one in pairs), chosen_on]


def leave(
  run: str | os.PathLike[str],
  found: Sequence[verification.Verification],
  pairs: Sequence[pair_sets.PairSet],
  threshold_pairs: pair_sets.PairSet | None = None,
  *,
  step: int,
  summary: Mapping[str, Any],
) -> None:
  """Writes what `verify` found of the pair sets at a run's end; see `write`.

  The threshold of the first is kept in the card of the net.

  Args:
    run: the folder of the run.
    found: as `verify` returned it; [] if it failed.
    pairs: see `verify`.
    threshold_pairs: see `verify`.
    step: of the run.
    summary: see `write`.
  """
  told = []
  for k, (one, its) in enumerate(
    zip(found, every(pairs, threshold_pairs), strict=False)
  ):
    transferred = threshold_pairs is not None and k < len(pairs)
    more = transfer.quantities(found[-1], one, its) if transferred else []
    result = pair_results.result(
      one, its, samples=_SAMPLES, more=more, step=step
    )
    told.append((one, its, result))
  write(run, [(one, result) for one, _, result in told], summary=summary)
  for one, its, result in told[:1]:
    kept.write(run, kept.of_pairs(one, its, step=step, data=result.data))


def write(
  run: str | os.PathLike[str],
  found: Sequence[tuple[verification.Verification, results.Result]],
  *,
  summary: Mapping[str, Any],
) -> None:
  """Writes what a run verified at its end: report/metrics.json and results.

  Each file appears whole or not at all.

  Args:
    run: the folder of the run.
    found: the evaluations of the final parameters, each with its own name.
    summary: what else to store: numbers, text, lists and mappings of them.

  Raises:
    ValueError: if two results have one name.
    TypeError: if `summary` holds what JSON cannot.
  """
  entries = {
    one.name: {
      "pairs": len(one.same),
      "convention": one.convention,
      "metrics": one.metrics,
    }
    for one, _ in found
  }
  if len({results.file_name(name) for name in entries}) < len(found):
    names = [one.name for one, _ in found]
    raise ValueError(f"results are named {names}; give each a name of its own")
  metrics_file.write(run, entries, summary=summary)
  for _, result in found:
    results.write(run, result)
