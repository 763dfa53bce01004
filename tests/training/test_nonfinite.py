"""Losses that are not finite: noticed, left out, gone back from."""

import jax.numpy as jnp
import numpy as np
import pytest

from facejax.training import nonfinite


def step_metrics(loss, rate=0.1):
  return {"loss": jnp.float32(loss), "learning_rate": jnp.float32(rate)}


def test_buffer_averages_and_forgets():
  buffer = nonfinite.MetricBuffer()
  assert buffer.drain() == {}
  for step, loss in enumerate([1.0, 2.0, 6.0]):
    buffer.add(step, step_metrics(loss, rate=step), np.arange(4))
  assert buffer.drain() == {"loss": 3.0, "learning_rate": 2.0}
  assert buffer.drain() == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_buffer_names_the_first_bad_step(bad):
  buffer = nonfinite.MetricBuffer()
  for step, loss in enumerate([1.0, bad, bad], start=10):
    buffer.add(step, step_metrics(loss), np.array([step, step + 100]))
  with pytest.raises(nonfinite.NonFiniteLossError, match="step 11") as caught:
    buffer.drain()
  assert caught.value.record_ids == [11, 111]


def drained(on_nonfinite, *steps):
  """The buffer after steps of (loss, gradient norm, skipped), and its means."""
  buffer = nonfinite.MetricBuffer(on_nonfinite)
  for step, (loss, norm, skipped) in enumerate(steps, start=1):
    numbers = {"gradient_norm": jnp.float32(norm)}
    if on_nonfinite == "skip":
      numbers["skipped"] = jnp.float32(skipped)
    buffer.add(step, step_metrics(loss) | numbers, np.array([10 * step]))
  return buffer, buffer.drain()


def test_a_gradient_alone_ends_no_run_but_sends_one_back():
  bad = (1.0, np.nan, 0)
  drained("stop", bad)
  with pytest.raises(nonfinite.NonFiniteLossError, match="gradient norm .*2"):
    drained("rollback", (1.0, 1.0, 0), bad)


def test_skipped_steps_are_counted_and_take_no_part_in_means():
  good = (2.0, 1.0, 0)
  buffer, means = drained("skip", good, (np.nan, 1.0, 1), good)
  assert means["loss"] == 2 and means["skipped"] == 1
  assert buffer.skipped == [(2, [20])]
  buffer.drain()
  assert buffer.skipped == []
  _, means = drained("skip", (np.nan, np.nan, 1))
  assert np.isnan(means["loss"]) and means["skipped"] == 1


def test_skipping_ends_when_all_is_skipped():
  bad = (np.nan, 1.0, 1)
  drained("skip", *[bad] * 20, (1.0, 1.0, 0), *[bad] * 20)
  with pytest.raises(nonfinite.NonFiniteLossError, match="step 21"):
    drained("skip", *[bad] * 30)
