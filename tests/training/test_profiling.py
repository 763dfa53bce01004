"""Steps that are traced, and that a trace disturbs no run."""

import contextlib
import json
import logging

import jax
import jax.numpy as jnp
import pytest

from facejax.training import profiling


@pytest.mark.parametrize(
  "text", ["", "5", "5:", ":5", "a:b", "0:3", "7:6", "-1:2", "1:2:3", " 1:2"]
)
def test_another_form_is_refused_with_the_form(text):
  with pytest.raises(ValueError, match="FIRST:LAST, .* such as 100:110"):
    profiling.parse(text)


def test_steps_beyond_the_end_are_refused():
  span = profiling.parse("100:110")
  profiling.check(span, 110)
  profiling.check(None, 1)
  with pytest.raises(ValueError, match="100:110: the run ends at step 109"):
    profiling.check(span, 109)


def take_steps(profiler, first, last):
  for step in range(first, last + 1):
    profiler.before(step, [], contextlib.nullcontext)
    with profiler.step(step):
      result = jax.jit(jnp.square)(1.0 * step)
    profiler.after(step, [result], contextlib.nullcontext)


class Fake:
  """Traces that are noted, or fail."""

  def __init__(self, fails=""):
    self.calls, self.fails = [], fails

  def start(self, folder):
    self._note("start")

  def stop(self):
    self._note("stop")

  def _note(self, name):
    self.calls.append(name)
    if name == self.fails:
      raise RuntimeError("only one profile may be run at a time")


def profiler(tmp_path, fake, first, last):
  return profiling.Profiler(
    *(tmp_path, profiling.Span(first, last)),
    start=fake.start,
    stop=fake.stop,
  )


@pytest.mark.parametrize(
  ("first", "last", "calls"),
  [
    (2, 3, ["start", "stop"]),
    # A run that goes on within the span traces the rest.
    (1, 3, ["start", "stop"]),
    # One that ends within it, by an error or a stop, writes what it has.
    (4, 9, ["start", "stop"]),
    (6, 9, []),
    (1, 1, []),
  ],
)
def test_the_steps_that_come_are_traced(tmp_path, first, last, calls):
  fake = Fake()
  with profiler(tmp_path, fake, first, last) as one:
    take_steps(one, 2, 5)
  assert fake.calls == calls


@pytest.mark.parametrize("fails", ["start", "stop"])
def test_a_trace_that_fails_is_named_and_the_run_goes_on(
  tmp_path, fails, caplog
):
  fake = Fake(fails)
  with (
    caplog.at_level(logging.WARNING, "facejax"),
    profiler(tmp_path, fake, 2, 3) as one,
  ):
    take_steps(one, 1, 5)
  assert fake.calls == ["start", "stop"][: 1 + (fails == "stop")]
  [record] = caplog.records
  assert "profile=2:3 failed: only one profile" in record.message


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
  """The file of a trace of the second and third of five steps."""
  folder = tmp_path_factory.mktemp("traced")
  with profiling.Profiler(folder, profiling.Span(2, 3)) as one:
    take_steps(one, 1, 5)
  [path] = (folder / "profile").rglob("*.xplane.pb")
  return str(path)


@pytest.mark.slow
def test_the_trace_can_be_read(trace):
  data = jax.profiler.ProfileData.from_file(trace)
  numbers = {
    dict(event.stats).get("step_num")
    for plane in data.planes
    for line in plane.lines
    for event in line.events
    if event.name == "train"
  }
  assert numbers == {2, 3}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a package that is not ours
def test_xprof_opens_it(trace):
  xprof = pytest.importorskip("xprof.convert.raw_to_tool_data")
  assert "overview_page" in xprof.xspace_to_tool_names([trace])
  page, kind = xprof.xspace_to_tool_data([trace], "overview_page", {})
  assert kind == "application/json" and json.loads(page)
