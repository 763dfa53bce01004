"""From which score on a finding is believed, by the scores of a set itself.

Of the scores S found in a set, an unknown share p belongs to faults; what scores
faults have is known by making some: an image under a stranger's name, a person
cut in two. For any threshold t, then,

  P(S >= t) = (1 - p) P(S >= t | right) + p P(S >= t | fault),

so that p is at most P(S >= t) / P(S >= t | fault), and where t lets nothing pass
that is right, p is that. The least of these quotients estimates p, and
p P(S >= t | fault) / P(S >= t) the precision at t. No labels need be right but
those of most images, which the made faults are made of. Up to seven findings are not
told from the last of what is right, and nothing is found then. It is the estimate of
the share of true null hypotheses of Storey (2002), the other way round.

References:
  Storey, A direct approach to false discovery rates, 2002.
"""

from typing import Any, NamedTuple

import numpy as np

# Where fewer are left, quotients are noise.
_FEWEST, _SHARE = 5, 0.3
_TAIL = 7
_LAST = 0.02


class FaultThreshold(NamedTuple):
  """A threshold and what is estimated at it.

  Attributes:
    score: from which on a finding is believed; inf for nowhere.
    precision: the estimated share of faults among what is found; nan where
      nothing is, or the score was given.
    recall: the estimated share of faults that are found.
    share: the estimated share of faults among all scores.
  """

  score: float
  precision: float
  recall: float
  share: float

  def told(self) -> dict[str, Any]:
    """As JSON has it, without what is not finite."""
    pairs = self._asdict().items()
    return {k: float(v) if np.isfinite(v) else None for k, v in pairs}


def choose(
  observed: np.ndarray,
  made: np.ndarray,
  *,
  precision: float = 0.9,
  given: float | None = None,
) -> FaultThreshold:
  """The lowest score from which on the estimated precision is reached.

  Args:
    observed: the scores of a set, higher for what looks more like a fault.
    made: the scores of faults that were made.
    precision: the share of faults among what is found that is asked for.
    given: a score to take instead.

  >>> rng = np.random.default_rng(0)
  >>> scores = np.concatenate([rng.normal(-4, 1, 9000), rng.normal(4, 1, 1000)])
  >>> found = choose(scores, rng.normal(4, 1, 5000))
  >>> round(found.share, 2), round(found.score, 1), round(found.recall, 2)
  (0.1, 2.1, 0.98)
  """
  observed = np.sort(np.asarray(observed, np.float64))
  made = np.sort(np.asarray(made, np.float64))
  none = FaultThreshold(np.inf, np.nan, 0.0, 0.0)
  if not len(observed) or not len(made):
    return none if given is None else none._replace(score=float(given))
  # Of equal scores the first stands for all.
  above = len(observed) - np.searchsorted(observed, observed)
  all_above = above / len(observed)
  faults = 1 - np.searchsorted(made, observed) / len(made)
  trusted = (faults >= _SHARE) & (above >= min(_FEWEST, len(observed)))
  # A little more, or of few the quotient that chance makes least is taken.
  quotients = (above + np.minimum(np.sqrt(above) / 2, 3)) / len(observed)
  quotients = quotients[trusted] / faults[trusted]
  share = min(1.0, float(quotients.min())) if len(quotients) else 0.0
  estimated = np.minimum(1.0, share * faults / all_above)
  if given is not None:
    passed = 1 - np.searchsorted(made, given) / len(made)
    return FaultThreshold(float(given), np.nan, float(passed), share)
  # Where nearly all faults are above, lower scores are not worth a mistake.
  worth = (faults > 0) & (observed >= np.quantile(made, _LAST))
  good = np.flatnonzero((estimated >= precision) & worth)
  # So few may as well be the tail of what is right.
  if not len(good) or above[good[0]] <= _TAIL:
    return none._replace(share=share)
  k = good[0]
  return FaultThreshold(
    float(observed[k]), float(estimated[k]), float(faults[k]), share
  )
