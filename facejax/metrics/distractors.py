"""MegaFace's protocol: find a mate among a million strangers.

Every ordered pair (probe, mate) of one person is a trial. It succeeds at rank 1
when the mate scores above every distractor,

    cosine(probe, mate) > max over distractors of cosine(probe, distractor)

Verification sets the scores of all trials against those of every probe with
every distractor: at FAR 1e-6 only the best few of those need be kept.

A million distractors need not lie in memory at once: a `Crowd` compares them as
they come, in any portions, and keeps one score a probe and the best few.

References:
  Kemelmacher-Shlizerman et al., *The MegaFace Benchmark: 1 Million Faces for
  Recognition at Scale*, 2016.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, intervals

_CELLS = 1 << 24  # scores that are held at once


@dataclasses.dataclass(frozen=True, eq=False)
class Strangers:
  """Scores of probes with distractors; `+` joins shards of the distractors.

  Attributes:
    best: the best score of each probe, [probes].
    tail: the largest scores of any probe, falling, [kept].
    keep: how many scores the tail holds at most.
    pairs: how many scores there are.
  """

  best: np.ndarray
  tail: np.ndarray
  keep: int
  pairs: int

  def __add__(self, other: "Strangers") -> "Strangers":
    keep = min(self.keep, other.keep)
    return Strangers(
      best=np.maximum(self.best, other.best),
      tail=_largest(np.r_[self.tail, other.tail], keep),
      keep=keep,
      pairs=self.pairs + other.pairs,
    )


class MegaFace(NamedTuple):
  """The two figures of the protocol."""

  rank_one: intervals.Rate
  tar: intervals.Rate
  far: intervals.Rate
  threshold: float  # of `tar` and `far`; accept scores that reach it


def compare(
  probes: npt.ArrayLike, distractors: npt.ArrayLike, *, keep: int
) -> Strangers:
  """Compares every probe with every distractor by cosine, in blocks.

  `Crowd` does the same with distractors that come bit by bit.

  Args:
    probes: embeddings of any length, [probes, dim].
    distractors: embeddings, [distractors, dim]; a memory map is read in blocks.
    keep: length of the tail; FAR f over n scores in all shards needs f * n + 1.

  Raises:
    ValueError: if shapes do not fit, an embedding is zero or not finite, or
      `keep` is below 1.

  >>> strangers = compare([[1, 0], [0, 1]], [[1, 1], [-1, 0]], keep=3)
  >>> strangers.best.round(3).tolist(), strangers.tail.round(3).tolist()
  ([0.707, 0.707], [0.707, 0.707, 0.0])
  """
  crowd = Crowd(probes, keep=keep)
  crowd.add(distractors)
  return crowd.strangers()


class Crowd:
  """Compares probes with distractors as these come, in any portions.

  >>> crowd = Crowd([[1, 0], [0, 1]], keep=3)
  >>> for distractor in [[1, 1]], [[-1, 0]]:
  ...   crowd.add(distractor)
  >>> crowd.strangers().best.round(3).tolist(), crowd.strangers().pairs
  ([0.707, 0.707], 4)
  """

  def __init__(self, probes: npt.ArrayLike, *, keep: int):
    """Begins with no distractors.

    Args:
      probes: embeddings of any length, [probes, dim].
      keep: see `compare`.

    Raises:
      ValueError: if an embedding is zero or not finite, or `keep` is below 1.
    """
    if keep < 1:
      raise ValueError(f"keep is {keep}; use 1 or more")
    self._begin(checks.units(probes, "probes"), keep)

  def _begin(self, units: np.ndarray, keep: int) -> None:
    self._probes, self._keep, self._seen = units, keep, 0
    self._best = np.full(len(units), -np.inf, units.dtype)
    self._tail = np.empty(0, units.dtype)

  def another(self) -> "Crowd":
    """An empty one of the same probes, which both hold together."""
    other = object.__new__(Crowd)
    other._begin(self._probes, self._keep)
    return other

  def add(self, distractors: npt.ArrayLike) -> None:
    """Compares some more; a memory map is read in blocks.

    Args:
      distractors: embeddings of any length, [rows, dim].

    Raises:
      ValueError: if shapes do not fit, or an embedding is zero or not finite.
    """
    probes, shape = self._probes, np.shape(distractors)
    if len(shape) != 2 or not shape[0] or shape[1] != probes.shape[1]:
      raise ValueError(
        f"distractors have shape {shape}; must be [rows, {probes.shape[1]}]"
      )
    rows = max(1, _CELLS // len(probes))
    for start in range(0, shape[0], rows):
      block = checks.units(
        np.asarray(distractors[start : start + rows]),  # pyright: ignore
        f"distractors from row {self._seen}",
      )
      scores = probes @ block.astype(probes.dtype, copy=False).T
      np.maximum(self._best, scores.max(axis=1), out=self._best)
      full = self._tail.size == self._keep
      more = scores[scores > (self._tail.min() if full else -np.inf)]
      self._tail = _kept(np.r_[self._tail, more], self._keep)
      self._seen += len(block)

  def strangers(self) -> Strangers:
    """What was found so far, of at least one distractor.

    Raises:
      ValueError: if there was none.
    """
    if not self._seen:
      raise ValueError("there are no distractors")
    return Strangers(
      self._best.copy(),
      _largest(self._tail, self._keep),
      self._keep,
      len(self._probes) * self._seen,
    )


def trials(
  probes: npt.ArrayLike, probe_ids: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Every ordered pair of two images of one person.

  Args:
    probes: embeddings of any length, [probes, dim].
    probe_ids: the person of each, [probes].

  Returns:
    The index of the probe and its cosine with the mate, both [trials], by
    person, probe and mate.

  Raises:
    ValueError: if shapes do not fit, or nobody has two images.

  >>> index, score = trials([[1, 0], [0, 1], [1, 1]], [3, 5, 3])
  >>> index.tolist(), score.round(3).tolist()
  ([0, 2], [0.707, 0.707])
  """
  probes = checks.units(probes, "probes")
  ids = checks.labels(probe_ids, len(probes), "probe_ids")
  _, person = np.unique(ids, return_inverse=True)
  order = np.argsort(person, kind="stable")
  index, scores = [], []
  for mine in np.split(order, np.cumsum(np.bincount(person))[:-1]):
    if len(mine) < 2:
      continue
    others = ~np.eye(len(mine), dtype=bool)
    scores.append((probes[mine] @ probes[mine].T)[others])
    index.append(np.repeat(mine, len(mine) - 1))
  if not index:
    raise ValueError("nobody has two probes; a trial needs a probe and a mate")
  return np.concatenate(index), np.concatenate(scores)


def megaface(
  probes: npt.ArrayLike,
  probe_ids: npt.ArrayLike,
  strangers: Strangers,
  *,
  far: float = 1e-6,
) -> MegaFace:
  """Rank-1 identification against distractors, and the largest TAR at a FAR.

  Trials of one probe share it: an interval over probes is wider than that of
  the rates here.

  Args:
    probes: embeddings of any length, [probes, dim].
    probe_ids: the person of each, [probes].
    strangers: of these very probes, see `compare`.
    far: false accept rate over all scores with distractors, in [0, 1].

  Raises:
    ValueError: as `trials`, and if `strangers` are those of other probes or
      kept too short a tail for `far`.

  >>> probes, people = [[1, 0], [1, 0.1], [0, 1]], ["a", "a", "b"]
  >>> strangers = compare(probes, [[1, 0.3], [-1, 0]], keep=7)
  >>> result = megaface(probes, people, strangers)
  >>> result.rank_one.value, result.tar.value
  (1.0, 1.0)
  """
  count = len(np.asarray(probe_ids))
  if len(strangers.best) != count:
    raise ValueError(
      f"strangers are of {len(strangers.best)} probes, not of these {count}"
    )
  return of_trials(*trials(probes, probe_ids), strangers, far=far)


def of_trials(
  index: np.ndarray,
  scores: np.ndarray,
  strangers: Strangers,
  *,
  far: float = 1e-6,
) -> MegaFace:
  """The same of `trials`, for several sets of distractors or rates.

  Args:
    index: the probe of each trial, int [trials].
    scores: its cosine with the mate, [trials].
    strangers: of the same probes.
    far: see `megaface`.

  Raises:
    ValueError: if `strangers` kept too short a tail for `far`.

  >>> probes = [[1, 0], [1, 0.1]]
  >>> found = trials(probes, [7, 7])
  >>> few, more = (compare(probes, [d], keep=3) for d in ([0, 1], [1, 0.05]))
  >>> [of_trials(*found, s).rank_one.value for s in (few, few + more)]
  [1.0, 0.0]
  """
  allowed = checks.allowed(checks.share(far, "far"), strangers.pairs)
  if allowed >= len(strangers.tail) < strangers.pairs:
    raise ValueError(
      f"FAR {far} of {strangers.pairs} scores lets {allowed} pass, and the tail "
      f"holds {len(strangers.tail)}; compare with keep={allowed + 1} or more"
    )
  bar = strangers.tail[allowed] if allowed < strangers.pairs else -np.inf
  passed = int(np.count_nonzero(strangers.tail > bar))
  return MegaFace(
    # A tie, and what only rounding tells from one, counts against the mate.
    rank_one=_rate(scores - checks.rounding(scores) > strangers.best[index]),
    tar=_rate(scores > bar),
    far=intervals.Rate(passed, strangers.pairs),
    threshold=float(np.nextafter(np.float64(bar), np.inf))
    if bar > -np.inf
    else -np.inf,
  )


def _rate(right: np.ndarray) -> intervals.Rate:
  return intervals.Rate(int(np.count_nonzero(right)), right.size)


def _kept(scores: np.ndarray, keep: int) -> np.ndarray:
  """The largest scores, in no order."""
  if scores.size <= keep:
    return scores
  return np.partition(scores, scores.size - keep)[scores.size - keep :]


def _largest(scores: np.ndarray, keep: int) -> np.ndarray:
  """The same, falling."""
  return np.sort(_kept(scores, keep))[::-1]
