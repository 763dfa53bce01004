"""What one sees in each figure of a report."""

from collections.abc import Callable, Mapping
from typing import Any

TITLES = {
  "roc": "ROC",
  "det": "DET",
  "histogram": "Scores",
  "cmc": "CMC",
  "open_set": "Open set",
  "distractors": "Rank-1 by distractors",
  "map": "People in the embedding",
  "reject": "Error against reject",
  "reliability": "Reliability of likelihood ratios",
  "groups": "Groups of people",
}

TRAINING = {
  "Training loss": "Loss of the batches; it should fall and level off.",
  "Training accuracy": "Share of each batch whose own class scores best, the"
  " margin not applied.",
  "Cosine to the own class": "Mean cosine of the images to the prototype of"
  " their person; it rises as people contract.",
  "Learning rate": "The schedule as it was run.",
  "Gradient norm": "Length of the trunk's gradient before clipping, on a"
  " logarithmic axis; spikes tell of trouble.",
  "Verification accuracy": "Accuracy on pairs at each evaluation while"
  " training.",
}


def caption(kind: str, curve: Mapping[str, Any]) -> str:
  """A sentence or two below a figure, with its numbers."""
  return _CAPTIONS[kind](curve)


def _roc(curve: Mapping[str, Any]) -> str:
  return (
    f"Genuine pairs accepted ({curve['genuine']:,}) against impostor pairs"
    f" accepted ({curve['impostor']:,}) at every threshold; up and left is"
    " better. Steps are rates that a threshold reaches."
  )


def _det(curve: Mapping[str, Any]) -> str:
  error = 100 * curve["equal_error_rate"]
  return (
    "The same errors, FNMR = 1 - TAR and FMR = FAR, on axes of normal deviates:"
    " a straight line is two normal distributions of scores. Down and left is"
    f" better; the dotted line, FMR = FNMR, crosses at the equal error rate,"
    f" {error:.2f} %."
  )


def _histogram(curve: Mapping[str, Any]) -> str:
  other, own = curve["kinds"]
  text = (
    f"Cosines of {own} and of {other}, each as shares of its kind. What"
    " overlaps is confused"
  )
  threshold = curve.get("threshold")
  if threshold is None:
    return f"{text}."
  return (
    f"{text}: {own} left of the threshold are rejected, {other} right of it"
    " are accepted."
  )


def _cmc(curve: Mapping[str, Any]) -> str:
  first = 100 * curve["rate"][0]
  return (
    "Share of probes whose own person is among the k best of the gallery:"
    f" {first:.1f} % at once, {100 * curve['rate'][-1]:.1f} % within"
    f" {curve['rank'][-1]}."
  )


def _open_set(curve: Mapping[str, Any]) -> str:
  return (
    "Enrolled people found against strangers taken for somebody, by threshold,"
    " mean of two galleries; up and left is better."
  )


def _distractors(curve: Mapping[str, Any]) -> str:
  return (
    "Share of trials whose mate scores above every distractor:"
    f" {100 * curve['rate'][0]:.1f} % among {curve['count'][0]:,},"
    f" {100 * curve['rate'][-1]:.1f} % among {curve['count'][-1]:,}. It cannot"
    " rise, as smaller sets lie within larger ones."
  )


def _map(curve: Mapping[str, Any]) -> str:
  share = 100 * sum(curve["explained"])
  return (
    f"Images of the {len(curve['names'])} people with most of them, in the"
    f" plane of their two main directions ({share:.0f} % of the variance): what"
    " lies apart here is apart, what overlaps may still be apart in the rest."
  )


def _reject(curve: Mapping[str, Any]) -> str:
  return (
    f"False rejects at the threshold of FAR {curve['far']:g} when the pairs whose"
    " worse image has the least quality are set aside (error against discard, EDC)."
    " It falls where the quality foretells failures: norm is the length of a"
    " feature, serfiq the agreement under dropout."
  )


def _reliability(curve: Mapping[str, Any]) -> str:
  return (
    f"Pairs in {len(curve['pairs'])} bins of like probability ({min(curve['pairs']):,}"
    f" to {max(curve['pairs']):,} pairs each), by likelihood ratios of the other"
    " folds where both kinds are equally frequent. On the dotted line what is said"
    " is so; below it one person is claimed too often. Bars: Wilson's 95 % interval of"
    " independent pairs."
  )


def _groups(curve: Mapping[str, Any]) -> str:
  threshold = curve["groupings"][0]["threshold"]
  return (
    "False matches of impostor pairs of each two groups, and false non-matches of"
    f" each group's genuine pairs, all at the cosine {threshold:.3f}. Darker is"
    " worse, on a logarithmic scale of each kind's own range. Groups are those of"
    " a file; nothing is inferred from faces."
  )


_CAPTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
  "roc": _roc,
  "det": _det,
  "histogram": _histogram,
  "cmc": _cmc,
  "open_set": _open_set,
  "distractors": _distractors,
  "map": _map,
  "reject": _reject,
  "reliability": _reliability,
  "groups": _groups,
}
