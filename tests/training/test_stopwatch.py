"""Speeds leave out compiling and pauses."""

import math

import pytest
from helpers import clock as clock_lib

from facejax.training import stopwatch


@pytest.fixture
def clock():
  return clock_lib.Clock()


@pytest.fixture
def watch(clock):
  return stopwatch.Stopwatch(batch_size=32, clock=clock)


def test_compiling_and_pauses_do_not_count(watch, clock):
  with watch.waiting():
    clock.now += 5
  clock.now += 60  # The first step compiles.
  watch.advance(1)
  for step in range(2, 12):
    with watch.waiting():
      clock.now += 0.1
    clock.now += 0.4
    watch.advance(step)
  with watch.paused():
    clock.now += 1000
  speed = watch.lap(11)
  assert speed["images_per_s"] == pytest.approx(10 * 32 / 5)
  assert speed["input_wait"] == pytest.approx(0.2)
  clock.now += 2
  speed = watch.lap(12)
  assert speed["images_per_s"] == pytest.approx(16)
  assert speed["input_wait"] == 0


def test_speed_of_nothing_is_not_a_number(watch, clock):
  clock.now += 3
  assert math.isnan(watch.lap(1)["images_per_s"])
  assert math.isnan(watch.seconds_left(1, 10))
  assert math.isnan(watch.lap(1)["input_wait"])


def test_time_left_has_pauses_in_it(watch, clock):
  watch.advance(21)
  clock.now += 10
  with watch.paused():
    clock.now += 10
  assert watch.seconds_left(31, 131) == pytest.approx(200)
  assert watch.seconds_left(131, 131) == 0


def test_time_is_counted_when_the_body_fails(watch, clock):
  watch.advance(0)
  with pytest.raises(OSError), watch.paused():
    clock.now += 4
    raise OSError
  clock.now += 1
  assert watch.lap(1)["images_per_s"] == pytest.approx(32)
