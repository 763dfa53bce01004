"""By which figure of which set of pairs the steps of a run are ranked."""

from collections.abc import Sequence

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import verification
from facejax.runs import scores

MEAN = "mean"


def ranking(
  name: str,
  pairs: Sequence[pair_sets.PairSet],
  threshold_pairs: pair_sets.PairSet | None = None,
) -> scores.Ranking:
  """What says which step of a run is best.

  Args:
    name: such as "agedb_30/accuracy"; "mean" for the accuracies of all `pairs`.
    pairs: the sets that are verified on.
    threshold_pairs: one more set, which a threshold for them is chosen on.

  Raises:
    ValueError: if there is no such figure; lists those that there are.
  """
  if name == MEAN:
    sets = [one.name for one in pairs]
    by = tuple(f"{one}/accuracy" for one in sets)
    if len(by) == 1:
      return scores.Ranking(by[0], by, older="accuracy")
    return scores.Ranking(f"mean accuracy of {', '.join(sets)}", by)
  known = _figures(pairs, threshold_pairs)
  if name not in known:
    there = (
      f"choose {MEAN}, or one of {', '.join(known)}"
      if known
      else "nothing is verified; name pairs with --eval.pairs"
    )
    raise ValueError(
      f"checkpoint.best={name!r}: there is no such figure; {there}"
    )
  lower = name.rpartition("/")[2] in verification.LOWER_IS_BETTER
  return scores.Ranking(name, (name,), lower=lower)


def _figures(
  pairs: Sequence[pair_sets.PairSet], threshold_pairs: pair_sets.PairSet | None
) -> list[str]:
  """Every figure by the names of set and metric."""
  given = threshold_pairs is not None
  found = [(one, given) for one in pairs]
  if threshold_pairs is not None:
    found.append((threshold_pairs, False))
  return [
    f"{one.name}/{figure}"
    for one, given in found
    for figure in verification.figures(one, given=given)
  ]
