"""scores.json: what the verified steps of a run scored, and which is best.

`{"400": {"lfw/accuracy": 0.93, …}, …}` beside the checkpoints, with null for what
is not finite; also of steps whose checkpoint is gone.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from facejax.runtime import json_files

_FILE = "scores.json"


@dataclasses.dataclass(frozen=True)
class Ranking:
  """By which figure the steps of a run are ranked.

  Attributes:
    name: what it is called.
    by: its parts, such as "agedb_30/accuracy"; their mean counts.
    lower: whether less is better.
    older: what older runs, with one set of pairs each, called its only part.
  """

  name: str = "accuracy"
  by: tuple[str, ...] = ("accuracy",)
  lower: bool = False
  older: str = ""

  def of(self, found: Mapping[str, float | None]) -> float | None:
    """The figure among scores; None where a part is missing or not finite.

    >>> Ranking(by=("a/accuracy", "b/accuracy")).of(
    ...   {"a/accuracy": 0.5, "b/accuracy": 0.75})
    0.625
    """
    parts = [found.get(name, found.get(self.older)) for name in self.by]
    known = [one for one in parts if one is not None and math.isfinite(one)]
    if not parts or len(known) < len(parts):
      return None
    return sum(known) / len(known)

  def rank(self, found: Mapping[str, float | None]) -> float | None:
    """The same as a number of which more is better."""
    value = self.of(found)
    return -value if self.lower and value is not None else value


class Best(NamedTuple):
  """The best of the steps that were verified.

  Attributes:
    step: the newest of equals, which is also the one that is kept.
    value: its figure.
    verified: how many steps were ranked.
    without: how many of them, in a row at the end, brought no better figure.
  """

  step: int
  value: float
  verified: int
  without: int


class Scores:
  """The scores of one run.

  Args:
    folder: of the checkpoints.
    ranking: what says which step is best.
  """

  def __init__(self, folder: str | os.PathLike[str], ranking: Ranking):
    self.ranking = ranking
    self._path = pathlib.Path(folder, _FILE)

  def add(self, step: int, scores: Mapping[str, float]) -> None:
    """Keeps what a step scored; later ones, before the run went back, go.

    Raises:
      OSError: it could not be written.
    """
    kept = {k: v for k, v in self._read().items() if int(k) < step}
    # JSON knows no NaN; None is never among the best either.
    kept[str(step)] = {
      name: value if math.isfinite(value) else None
      for name, value in scores.items()
    }
    self._path.parent.mkdir(parents=True, exist_ok=True)
    json_files.write(self._path, kept)

  def of(self, step: int) -> Mapping[str, float | None] | None:
    """What a step scored; None if it was not verified."""
    return self._read().get(str(step))

  def best(self, until: int) -> Best | None:
    """The best step so far, none after `until`; None if none was ranked."""
    found = {
      int(step): self.ranking.rank(scores)
      for step, scores in self._read().items()
      if int(step) <= until
    }
    ranked = {k: v for k, v in found.items() if v is not None}
    if not ranked:
      return None
    step = max(ranked, key=lambda k: (ranked[k], k))
    since = min(k for k, v in ranked.items() if v == ranked[step])
    value = -ranked[step] if self.ranking.lower else ranked[step]
    without = sum(k > since for k in ranked)
    return Best(step, value, len(ranked), without)

  def _read(self) -> dict[str, dict[str, Any]]:
    try:
      found = json_files.read_or_none(self._path) or {}
      return {
        step: dict(scores) for step, scores in found.items() if int(step) >= 0
      }
    except (ValueError, TypeError, AttributeError):
      return {}  # damaged: it only says which steps are best
