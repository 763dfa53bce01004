"""When a run counts as stuck, by a clock of the test's own; one real hang."""

import os
import threading

import pytest
from helpers import small_training

from facejax.training import watchdog


class Clock:
  """Seconds that pass when the test says so, looked at every five."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now

  def passes(self, seconds, patience):
    """Whether all is well all the while."""
    for _ in range(int(seconds / 5)):
      self.now += 5
      complaint = patience.look()
      if complaint is not None:
        return complaint
    return None


@pytest.fixture
def clock():
  return Clock()


def patience_of(clock, seconds):
  return watchdog.Patience(seconds, period=5, clock=clock)


def test_steps_may_take_ten_times_what_they_took(clock):
  patience = patience_of(clock, 60)
  for step in range(1, 12):
    patience.advance(step)
    clock.now += 20
  patience.look()
  patience.advance(12)
  assert clock.passes(195, patience) is None
  complaint = clock.passes(20, patience)
  assert complaint is not None
  assert "where one takes 20" in complaint and "step 12" in complaint


def test_quick_steps_are_given_the_seconds_asked_for(clock):
  patience = patience_of(clock, 60)
  for step in range(1, 12):
    patience.advance(step)
    clock.now += 0.1
  assert clock.passes(55, patience) is None
  assert "no step for" in (clock.passes(15, patience) or "")


def test_one_slow_step_makes_no_difference(clock):
  patience = patience_of(clock, 60)
  patience.advance(1)
  for step in range(2, 9):
    assert clock.passes(50 if step == 4 else 5, patience) is None
    patience.advance(step)
  assert clock.passes(70, patience) is not None


def test_the_first_step_and_pauses_have_half_an_hour(clock):
  patience = patience_of(clock, 60)
  assert clock.passes(1790, patience) is None
  patience.advance(1)
  with patience.paused():
    assert clock.passes(1790, patience) is None
  # What a pause took is part of no step.
  patience.advance(2)
  assert clock.passes(70, patience) is not None


def test_a_pause_may_take_ten_times_the_longest(clock):
  patience = patience_of(clock, 60)
  patience.advance(1)
  with patience.paused():
    clock.now += 600
  with patience.paused():
    assert clock.passes(5990, patience) is None
    assert "verifying or saving" in (clock.passes(20, patience) or "")


def test_a_first_step_that_never_ends_is_told_of(clock):
  patience = patience_of(clock, 4000)
  assert clock.passes(3995, patience) is None
  assert "the first step" in (clock.passes(10, patience) or "")


def test_a_machine_that_slept_is_not_stuck(clock):
  patience = patience_of(clock, 60)
  patience.advance(1)
  clock.now += 1e6
  assert patience.look() is None
  assert clock.passes(40, patience) is None


def test_it_watches_while_it_is_entered():
  told = threading.Event()
  with watchdog.Watchdog(0.01, end=lambda complaint: told.set()) as dog:
    dog.advance(1)
    assert told.wait(60)
  with watchdog.Watchdog(0) as dog:
    dog.advance(1)
    names = [thread.name for thread in threading.enumerate()]
  assert "facejax-watchdog" not in names


HANGING = """
import dataclasses, pathlib, threading
from facejax.data.augment import policies
from facejax.training import recipe

class Hanging:
  def __init__(self):
    self.images = 0

  def __call__(self, image, draws):
    self.images += 1
    if self.images > 3 * 16:
      threading.Event().wait()
    return image

hanging = Hanging()
policies.combined = lambda *_: hanging

def get_config(preset="default"):
  return recipe.load("cosface.py")
"""


@pytest.mark.slow
def test_input_that_hangs_ends_the_process_with_its_stacks(tmp_path):
  hanging = tmp_path / "hanging.py"
  hanging.write_text(HANGING)
  code, output = small_training.run(
    [
      "--config", hanging, *small_training.SMALL[2:], "--model.name",
      "sphereface4", "--mesh.devices", 1, "--steps", 50, "--stuck-after", 2,
      "--data.threads", 1, "--eval.num-pairs", 20, "--workdir",
      tmp_path / "run",
    ],
  )  # fmt: skip
  assert code == watchdog.EXIT_STUCK, output
  assert "error: stuck: no step for" in output
  assert "__call__" in output and "the threads of process 0" in output
  assert os.path.exists(tmp_path / "run" / "train.log")
  assert "error: stuck" in (tmp_path / "run" / "train.log").read_text()
