"""When a run that failed is started again."""

import pytest

from facejax.runtime import restarts


def test_waits_double_up_to_five_minutes():
  again = restarts.Restarts(9, 20.0)
  waits = [again.after_fault(100.0) for _ in range(9)]
  assert waits == [20, 40, 80, 160, 300, 300, 300, 300, 300]
  assert again.count == 9
  with pytest.raises(restarts.GivenUpError, match="--restarts 9"):
    again.after_fault(100.0)


def test_short_runs_are_a_crash_loop():
  again = restarts.Restarts(9, 0.0)
  for seconds in (1, 1, 100, 1):  # the first is no restart
    again.after_fault(seconds)
  with pytest.raises(
    restarts.GivenUpError, match="crash loop.* less than 60 s"
  ):
    again.after_fault(1)


def test_saved_steps_are_progress_however_short_the_run():
  steps = [-1]
  again = restarts.Restarts(
    9, 0.0, newest=lambda: steps[-1], what="checkpoint in runs/a"
  )
  for step in (-1, 10, 10, 20, 20):
    steps.append(step)
    again.after_fault(1.0)
  steps.append(20)
  with pytest.raises(
    restarts.GivenUpError, match="no new checkpoint in runs/a"
  ):
    again.after_fault(1000.0)
