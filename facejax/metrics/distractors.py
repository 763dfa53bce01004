"""MegaFace's protocol: find a mate among a million strangers.

Every ordered pair (probe, mate) of one person is a trial. It succeeds at rank 1
when the mate scores above every distractor,

    cosine(probe, mate) > max over distractors of cosine(probe, distractor)

Verification sets the scores of all trials against those of every probe with
every distractor: at FAR 1e-6 only the best few of those need be kept.

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
  probes = checks.units(probes, "probes")
  shape = np.shape(distractors)
  if len(shape) != 2 or not shape[0] or shape[1] != probes.shape[1]:
    raise ValueError(
      f"distractors have shape {shape}; must be [rows, {probes.shape[1]}]"
    )
  if keep < 1:
    raise ValueError(f"keep is {keep}; use 1 or more")
  rows = max(1, _CELLS // len(probes))
  best = np.full(len(probes), -np.inf, probes.dtype)
  tail, bar = np.empty(0, probes.dtype), -np.inf
  for start in range(0, shape[0], rows):
    block = checks.units(
      np.asarray(distractors[start : start + rows]),  # pyright: ignore
      f"distractors from row {start}",
    )
    scores = probes @ block.astype(probes.dtype, copy=False).T
    np.maximum(best, scores.max(axis=1), out=best)
    tail = _largest(np.r_[tail, scores[scores > bar]], keep)
    bar = tail[-1] if tail.size == keep else -np.inf
  return Strangers(best, tail, keep, len(probes) * shape[0])


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
  index, scores = trials(probes, probe_ids)
  if len(strangers.best) != len(np.asarray(probe_ids)):
    raise ValueError(
      f"strangers are of {len(strangers.best)} probes, not of these "
      f"{len(np.asarray(probe_ids))}"
    )
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


def _largest(scores: np.ndarray, keep: int) -> np.ndarray:
  if scores.size > keep:
    scores = np.partition(scores, scores.size - keep)[scores.size - keep :]
  return np.sort(scores)[::-1]
