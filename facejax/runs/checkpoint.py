"""Checkpoints of the training state: asynchronous, checked and quiet.

A thin layer over Orbax, which writes sharded arrays in the background, commits
a step by renaming its folder, and reads it back onto any other mesh. Added
here: a digest per array, because Orbax does not notice a flipped bit; the
fall-back to an older step when the newest is damaged; retention of the last
and of the best steps together; and errors that say what to do.

The state is stored as a flat dictionary, `{".params['stem']['kernel']": …}`, so
that empty sub-trees and optimizer containers leave no trace in the file.
"""

import contextlib
import logging
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from facejax.runs import checkpoint_read, digest, orbax_noise, retention
from facejax.runs import scores as scores_lib
from facejax.runtime import distributed

logger = logging.getLogger(__name__)

_LARGE = 2**30  # bytes

PyTree = Any
Restored = checkpoint_read.Restored
DamagedCheckpointError = checkpoint_read.DamagedCheckpointError


def bytes_on_disk(state: PyTree) -> int:
  """Upper bound in bytes of one checkpoint; `ShapeDtypeStruct`s will do.

  A run needs room for `keep + keep_best + 1` of them: an old one is deleted
  only after the new one is complete.
  """
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


class Checkpoints:
  """The checkpoints of one run: `folder/STEP`, one folder a step.

  Reading changes nothing, so that one process may evaluate what another is
  training. The first `save` removes what killed saves left behind. Of several
  processes of one run, each writes and reads its part; all must call alike.

  Args:
    folder: where the steps lie; created by the first `save`.
    keep: how many of the newest steps are kept.
    keep_best: how many of the best are kept besides.
    ranking: which of the scores says what is best.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    *,
    keep: int = 2,
    keep_best: int = 1,
    ranking: scores_lib.Ranking = scores_lib.Ranking(),  # noqa: B008, frozen
  ):
    self.folder = pathlib.Path(folder).absolute()
    self._scores = scores_lib.Scores(self.folder, ranking)
    self._retention = retention.Retention(
      last=keep, best=keep_best, read_metric=self._read_rank
    )
    self._pending: int | None = None
    self._writer: ocp.training.Checkpointer | None = None
    orbax_noise.silence()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, exception_type, exception, traceback) -> None:
    try:
      self.close()
    except OSError as error:
      if exception is None:
        raise
      logger.error("%s", error)

  @property
  def ranking(self) -> scores_lib.Ranking:
    """What says which step is best."""
    return self._scores.ranking

  @property
  def steps(self) -> list[int]:
    """Steps whose checkpoint is complete, oldest first."""
    return [s for s in self._folders() if ocp.is_orbax_checkpoint(self._at(s))]

  def save(
    self,
    step: int,
    state: PyTree,
    *,
    metrics: Mapping[str, float] | None = None,
    metadata: Mapping[str, Any] | None = None,
  ) -> None:
    """Starts to write `state`, which may be donated once this has returned.

    Waits for the previous save first. A checkpoint of this step is replaced.
    On CPUs a state above 1 GiB is written before this returns.

    Args:
      step: number of finished training steps.
      state: pytree of arrays, on any sharding; none may be without elements.
      metrics: what the state scored, if that is known already.
      metadata: anything that JSON can hold, handed back by `restore`.

    Raises:
      OSError: this or the previous checkpoint could not be written; those
        before it are untouched.
    """
    self.wait()
    metrics = {k: float(v) for k, v in (metrics or {}).items()}
    leaves = digest.named_leaves(state)
    record = {
      "leaves": digest.describe(leaves),
      "metrics": metrics,
      "metadata": dict(metadata or {}),
    }
    self._retention.metric[step] = self.ranking.rank(metrics)
    self._retention.damaged.discard(step)
    self._pending = step
    with self._explained_failure():
      self._writer = self._writer or ocp.training.Checkpointer(
        str(self.folder),
        context=checkpoint_read.in_pieces(),
        preservation_policy=self._retention,
        cleanup_tmp_directories=True,
        # A damaged record of an old step must not keep a run from starting.
        lightweight_initialize=True,
      )
      self._writer.save_async(
        step,
        leaves,
        force=True,
        overwrite=True,
        custom_metadata=checkpoint_read.sealed(record),
      )
      if bytes_on_disk(state) > _LARGE and digest.on_cpus(leaves):
        # The writer reads the state's own memory: a step would need as much again.
        self._writer.wait()

  def score(self, step: int, metrics: Mapping[str, float]) -> None:
    """Says what the state of `step` scored, which has been saved without it.

    Raises:
      OSError: it could not be written.
    """
    self._retention.metric[step] = self.ranking.rank(metrics)
    if distributed.primary():
      self._scores.add(step, {k: float(v) for k, v in metrics.items()})

  def is_scored(self, step: int) -> bool:
    """Whether it is known how good `step` is; all processes must ask."""
    return distributed.gathered(self._read_rank(step) is not None)[0]

  def best(self, until: int) -> scores_lib.Best | None:
    """The best step so far, none after `until`; all processes must ask."""
    found = distributed.gathered(self._scores.best(until))[0]
    return None if found is None else scores_lib.Best(*found)

  def restore(
    self,
    like: PyTree | Callable[[Mapping[str, Any]], PyTree],
    *,
    step: int | None = None,
    resizable: Callable[[str], bool] = lambda path: False,
    partial: bool = False,
    accept: Callable[[Mapping[str, Any]], None] = lambda metadata: None,
  ) -> Restored | None:
    """Reads the newest sound checkpoint, or exactly that of `step`.

    Args:
      like: the state as `ShapeDtypeStruct`s, whose shardings may be those of
        another mesh than the one saved from. Or a function that gives it for
        the record of what is read: `metadata`, and `leaves` with shape and
        dtype by path.
      step: reads this step or fails; without it, damaged steps are skipped
        with a warning.
      resizable: says of a leaf's path, such as `".params['stem']['kernel']"`,
        whether its first axis may differ from what is stored: zero rows are
        then added or cut off at its end.
      partial: do without stored leaves that `like` does not have, such as the
        optimizer's.
      accept: is given the metadata before anything else is compared, and
        raises ValueError to refuse it.

    Returns:
      What was read, or None when the folder has no checkpoint at all.

    Raises:
      FileNotFoundError: there is no checkpoint of `step`.
      DamagedCheckpointError: that of `step`, or every one, is damaged.
      ValueError: leaves, shapes or dtypes differ from `like`, or `accept`
        says no.
    """
    self.wait()
    # What the first process sees, so that all read the same.
    found = distributed.gathered(self._folders())[0]
    if step is not None and step not in found:
      raise FileNotFoundError(
        f"no checkpoint of step {step} in {self.folder}; there are {found}."
      )
    reasons = []
    for candidate in reversed(found) if step is None else [step]:
      try:
        state, metadata = _read_by_all(
          self._at(candidate),
          like,
          resizable=resizable,
          partial=partial,
          accept=accept,
        )
        return Restored(candidate, state, metadata)
      except DamagedCheckpointError as error:
        logger.warning("checkpoint of step %d is damaged: %s", candidate, error)
        self._retention.damaged.add(candidate)
        reasons.append(f"\n  step {candidate}: {error}")
    if not reasons:
      return None
    raise DamagedCheckpointError(
      f"no sound checkpoint in {self.folder}:{''.join(reasons)}\nBring back a"
      " copy of it, or start anew in another folder."
    )

  def wait(self) -> None:
    """Blocks until the last save is on disk; raises OSError if it failed."""
    if self._writer is not None:
      with self._explained_failure():
        self._writer.wait()

  def close(self) -> None:
    """Waits like `wait` and ends the writer's threads."""
    self.wait()
    self._close_writer()

  def _folders(self) -> list[int]:
    names = (path.name for path in self.folder.glob("*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdecimal())

  def _at(self, step: int) -> str:
    return str(self.folder / str(step))

  def _read_rank(self, step: int) -> float | None:
    try:
      found = self._scores.of(step)
      if found is None:
        found = checkpoint_read.read_record(self._at(step))["metrics"]
      return self.ranking.rank(found)
    except (DamagedCheckpointError, TypeError, AttributeError):
      return None

  def _close_writer(self) -> None:
    writer, self._writer = self._writer, None
    if writer is not None:
      writer.close()

  @contextlib.contextmanager
  def _explained_failure(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      # The next writer removes the remains and looks anew at what is on disk,
      # so that the failed step takes the place of no sound one.
      with contextlib.suppress(Exception):
        self._close_writer()
      raise OSError(
        f"could not write the checkpoint of step {self._pending} to"
        f" {self.folder}: {checkpoint_read.summary(error)}. Complete: {self.steps}."
      ) from error


def _read_by_all(path: str, like: PyTree, **options: Any) -> Any:
  """Reads a checkpoint; it is damaged for all if it is so for one.

  Raises:
    DamagedCheckpointError: a process could not read it.
    ValueError: as `checkpoint_read.read`.
  """
  state, error = None, None
  try:
    state = checkpoint_read.read(path, like, **options)
  except DamagedCheckpointError as caught:
    error = caught
  found = distributed.gather("" if error is None else str(error))
  for process, text in enumerate(found):
    if text and error is None:
      error = DamagedCheckpointError(f"{distributed.name(process)}: {text}")
  if error is not None:
    raise error
  return state
