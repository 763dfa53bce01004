"""Checks of what a run is to be verified on."""

from facejax.training import config as config_lib


def check(evaluation: config_lib.EvalConfig, *, source: str) -> None:
  """Refuses options of the verification that contradict each other.

  Args:
    evaluation: the options.
    source: data.source of the run.

  Raises:
    ValueError: naming the option, and what to do.
  """
  sets, off = evaluation.pairs, config_lib.NO_PAIRS
  if off in sets and len(sets) > 1:
    raise ValueError(
      f"eval.pairs={' '.join(sets)}: {off} goes with no other; name the sets of"
      f" pairs, or {off} alone"
    )
  chosen_on = evaluation.threshold_pairs
  if chosen_on and (not sets or off in sets):
    raise ValueError(
      f"eval.threshold_pairs={chosen_on!r} needs eval.pairs, the pairs to which"
      " the threshold is applied"
    )
  if evaluation.patience and not evaluation.every:
    raise ValueError(
      f"eval.patience={evaluation.patience} counts verifications while training,"
      " and eval.every=0 makes none: give the steps between them, or leave"
      " eval.patience at 0"
    )
  if evaluation.patience and off in sets:
    raise ValueError(
      f"eval.patience={evaluation.patience} counts verifications, and"
      f" eval.pairs={off} makes none: name sets of pairs"
    )
  if evaluation.hold_out and source == "synthetic":
    raise ValueError(
      f"eval.hold_out={evaluation.hold_out:g} goes with images in files"
      " (data.path): generated faces are verified on people made for that, leave"
      " it at 0"
    )
