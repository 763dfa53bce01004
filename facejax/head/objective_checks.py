"""What an objective may not ask for at once."""

from typing import Any

from facejax.runtime import ranges


def check(objective: Any) -> None:
  """Refuses fields that do not go together.

  Args:
    objective: an `Objective`.

  Raises:
    ValueError: naming the fields, and what to do.
  """
  ranges.check_numbers(
    ranges.POSITIVE, scale=objective.scale, weight=objective.weight
  )
  if objective.one_vs_all is not None:
    own, others = objective.one_vs_all
    ranges.check_numbers(ranges.NOT_NEGATIVE, own=own, others=others)
  if objective.negative is not None and not objective.unit_prototypes:
    raise ValueError("negative needs cosines: leave unit_prototypes=True")
  if objective.one_vs_all is not None and not objective.own_counts:
    raise ValueError("own_counts=False is of softmax: leave one_vs_all=None")
  if objective.bias and (
    objective.scale is not None or objective.unit_prototypes
  ):
    raise ValueError("bias needs scale=None and unit_prototypes=False")
  _check_filter(objective)
  if objective.divergence is not None:
    _check_divergence(objective)


def _check_filter(objective: Any) -> None:
  """Refuses a filter without cosines to filter by."""
  threshold = objective.interclass_filtering_threshold
  allowed = ranges.Range(0, 1, closed_above=False)
  ranges.check_numbers(allowed, interclass_filtering_threshold=threshold)
  if threshold and (
    not objective.unit_prototypes or objective.table is not None
  ):
    raise ValueError(
      f"interclass_filtering_threshold={threshold} is of a loss that sums over"
      " cosines: leave unit_prototypes=True and table=None, or it at 0"
    )


def _check_divergence(objective: Any) -> None:
  """Refuses what has no probabilities, or logits without known bounds."""
  alpha = objective.divergence.alpha
  ranges.check_numbers(ranges.Range(1, 2, closed_below=False), alpha=alpha)
  found = {
    "one_vs_all": objective.one_vs_all is not None,
    "table": objective.table is not None,
    "negative": objective.negative is not None,
    "own_counts=False": not objective.own_counts,
    "unit_prototypes=False": not objective.unit_prototypes,
  }
  for name, is_asked in found.items():
    if is_asked:
      raise ValueError(
        f"divergence with {name}: it is a softmax of cosines, changed by a"
        f" margin of the own class alone; leave {name.split('=')[0]} as it is"
      )
