"""The threshold of a net, with what is known of it: kept in the net's card.

Beside the cosine stand the share of strangers whom it takes for one person, on
which pairs that was found and how, a table of how many strangers reach other
cosines, and the line that makes a cosine a likelihood ratio.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

# Verbal scale of the European Network of Forensic Science Institutes (ENFSI,
# Guideline for Evaluative Reporting in Forensic Science, 2015), by the logarithm
# of the ratio that each word ends at.
_SUPPORT = (
  (math.log10(2), "no"),
  (1.0, "weak"),
  (2.0, "moderate"),
  (3.0, "moderately strong"),
  (4.0, "strong"),
  (6.0, "very strong"),
  (math.inf, "extremely strong"),
)

Bound: TypeAlias = Literal["about", "at most", "more than"]


class MatchRate(NamedTuple):
  """The share of strangers whose cosine reaches one, with its 95 % interval."""

  cosine: float
  rate: float
  low: float
  high: float


class AsHigh(NamedTuple):
  """How many strangers score as high: the rate, or what it is a bound of."""

  bound: Bound
  rate: float
  low: float
  high: float


@dataclasses.dataclass(frozen=True)
class RatioLine:
  """log10 of the likelihood ratio of a cosine: slope cosine + intercept.

  Attributes:
    slope: see above.
    intercept: see above.
    low: no ratio below this is told; more than one in as many pairs of one
      person as there were, nothing can be known of.
    high: none above it, as of pairs of strangers.
    cllr: what such ratios cost on pairs that the line was not fitted to, in
      bits.
  """

  slope: float
  intercept: float
  low: float
  high: float
  cllr: float | None = None

  def __call__(self, cosine: float) -> float:
    """log10 of the ratio, within what the pairs can tell."""
    value = self.slope * cosine + self.intercept
    return min(max(value, self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Threshold:
  """The cosine from which on two images count as the same person.

  Attributes:
    cosine: the threshold.
    accuracy: what share of pairs it got right.
    pairs: on which pairs.
    false_matches: the share of strangers there that it takes for one person
      (FMR); None in files of before.
    strangers: how many pairs of them there were.
    low: lower end of the FMR's 95 % interval; None in files of before.
    high: upper end.
    protocol: how it was chosen, and how its interval came about.
    data: where the pairs lie, their fingerprint and the like.
    step: training steps of the net.
    rates: how many strangers reach other cosines, by rising cosine.
    ratio: the line of likelihood ratios; None where none could be fitted.
  """

  cosine: float
  accuracy: float
  pairs: str
  false_matches: float | None = None
  strangers: int = 0
  low: float | None = None
  high: float | None = None
  protocol: str = ""
  data: Mapping[str, str] = dataclasses.field(default_factory=dict)
  step: int | None = None
  rates: Sequence[MatchRate] = ()
  ratio: RatioLine | None = None

  def __str__(self) -> str:
    right = f"{self.accuracy:.1%} of the pairs of {self.pairs!r} right"
    if self.false_matches is None:
      return right
    # None of n may be 3 in n: the rule of three.
    share = f"{self.false_matches:.2%}" if self.false_matches else "none"
    ends = ""
    if self.low is not None and self.high is not None:
      ends = f" ({100 * self.low:.2f} … {100 * self.high:.2f})"
    return (
      f"{right}; {share}{ends} of {self.strangers:,} pairs of strangers pass"
    )

  def as_high(self, cosine: float) -> AsHigh | None:
    """How many strangers score as high as a cosine; None if it is not known.

    Between two cosines of the table the logarithm of the rate, and of the ends
    of its interval, are lines. Beyond its ends it is a bound.

    >>> rates = [MatchRate(0.2, 0.1, 0.08, 0.12), MatchRate(0.4, 0.001, 0, 0.002)]
    >>> one = Threshold(0.3, 0.9, "mine", rates=rates)
    >>> found = one.as_high(0.3)
    >>> found.bound, round(found.rate, 6), one.as_high(0.5).bound
    ('about', 0.01, 'at most')
    """
    if not self.rates:
      return None
    place = bisect.bisect_right([one.cosine for one in self.rates], cosine)
    if not place:
      return AsHigh("more than", self.rates[0].rate, self.rates[0].low, 1.0)
    below = self.rates[place - 1]
    if place == len(self.rates):
      return AsHigh("at most", below.rate, 0.0, below.high)
    above = self.rates[place]
    share = (cosine - below.cosine) / (above.cosine - below.cosine)
    return AsHigh(
      "about",
      *(
        _between(one, other, share)
        for one, other in zip(below[1:], above[1:], strict=True)
      ),
    )


def of_mapping(found: Mapping[str, Any]) -> Threshold:
  """The threshold in a file, as `dataclasses.asdict` gave it.

  Raises:
    ValueError, TypeError: if it is damaged.
  """
  ratio = found.get("ratio")
  rates = [MatchRate(*map(float, row)) for row in found.get("rates", ())]
  kept = Threshold(
    **dict(found)
    | {"rates": tuple(rates), "ratio": ratio and RatioLine(**ratio)}
  )
  if not (isinstance(kept.cosine, float | int) and math.isfinite(kept.cosine)):
    raise ValueError(f"threshold {kept.cosine!r} must be a finite number")
  return kept


def told(kept: Threshold | None, cosine: float) -> dict[str, Any]:
  """What is known of a cosine, for programs; null where it is not known.

  Args:
    kept: of the net; None where nothing is.
    cosine: of two images.
  """
  found = kept and kept.as_high(cosine)
  ratio = kept and kept.ratio
  return {
    "strangers_as_high": found and dict(found._asdict()),
    "log10_likelihood_ratio": ratio and ratio(cosine),
  }


def words(found: Mapping[str, Any]) -> str:
  """What `told` knows, as a sentence; "" where it knows nothing.

  >>> high = {"bound": "about", "rate": 0.01, "low": 0.005, "high": 0.02}
  >>> words({"strangers_as_high": high, "log10_likelihood_ratio": 2.3})
  'about 1 in 100 strangers scores as high (95 %: 1 in 200 … 50); likelihood ratio 200, moderately strong support for one person'
  """
  parts, high = [], found["strangers_as_high"]
  if high is not None:
    text = f"{high['bound']} {_one_in(high['rate'])} strangers scores as high"
    if high["bound"] == "at most":
      text += f" (95 %: at most {_one_in(high['high'])})"
    elif high["bound"] == "about":
      ends = _count(high["low"]), _count(high["high"])
      text += f" (95 %: 1 in {ends[0]} … {ends[1]})"
    parts.append(text)
  if found["log10_likelihood_ratio"] is not None:
    parts.append(_support(found["log10_likelihood_ratio"]))
  return "; ".join(parts)


def _one_in(rate: float) -> str:
  return f"1 in {_count(rate)}"


def _count(rate: float) -> str:
  """How many make one: of few people with a decimal."""
  if not rate:
    return "∞"
  return f"{1 / rate:,.{1 if rate > 0.1 else 0}f}"


def _support(ratio: float) -> str:
  """A ratio by its logarithm, and how strongly it speaks for what.

  >>> _support(-3.5)
  'likelihood ratio 1/3,200, strong support for two people'
  """
  size = abs(ratio)
  strength = next(word for end, word in _SUPPORT if size <= end)
  number = f"{float(f'{10**size:.2g}'):,.{1 if size < 1 else 0}f}"
  value = number if ratio >= 0 else f"1/{number}"
  if strength == "no":
    return f"likelihood ratio {value}, support for neither"
  what = "one person" if ratio > 0 else "two people"
  return f"likelihood ratio {value}, {strength} support for {what}"


def _between(one: float, other: float, share: float) -> float:
  """On the line of two rates' logarithms; 0 where one of them is."""
  if one <= 0 or other <= 0:
    return 0.0 if share else one
  return math.exp(math.log(one) + share * (math.log(other) - math.log(one)))
