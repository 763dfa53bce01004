"""A trace of some steps, for xprof and TensorBoard's profile plug-in."""

import contextlib
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeAlias

import jax

from facejax.runs import folder

logger = logging.getLogger(__name__)

Paused: TypeAlias = Callable[[], contextlib.AbstractContextManager[None]]
_FORM = re.compile(r"(\d+):(\d+)")


@dataclasses.dataclass(frozen=True)
class Span:
  """Steps of a run, both ends included; the first is step 1."""

  first: int
  last: int

  def __str__(self) -> str:
    return f"{self.first}:{self.last}"


def parse(text: str) -> Span:
  """The steps that "FIRST:LAST" names.

  Raises:
    ValueError: if it is of another form.

  >>> parse("100:110")
  Span(first=100, last=110)
  """
  found = _FORM.fullmatch(text)
  span = Span(int(found[1]), int(found[2])) if found else None
  if span is None or not 1 <= span.first <= span.last:
    raise ValueError(
      f"profile={text!r}: must be FIRST:LAST, steps from 1 on such as 100:110,"
      " both of which are traced"
    )
  return span


def check(span: Span | None, total_steps: int) -> None:
  """Refuses steps that the run does not take.

  Raises:
    ValueError: naming them and its end.
  """
  if span is not None and span.last > total_steps:
    raise ValueError(
      f"profile={span}: the run ends at step {total_steps}; name steps from 1 to"
      f" {total_steps}"
    )


class Profiler:
  """Traces a span of steps into the folder of a run.

  It waits for the devices before the first and after the last of them, and
  costs nothing at any other. That it fails never ends the run.

  Args:
    run: the folder.
    span: which steps; None for none, as in processes that do not speak.
    start: begins a trace in a folder.
    stop: ends it, and writes its files.
  """

  def __init__(
    self,
    run: str | os.PathLike[str],
    span: Span | None,
    *,
    start: Callable[[str], Any] = jax.profiler.start_trace,
    stop: Callable[[], Any] = jax.profiler.stop_trace,
  ):
    self._folder = pathlib.Path(run, folder.PROFILE)
    self._span, self._start, self._stop = span, start, stop
    self._on = False

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_) -> None:
    self._end()

  def before(self, step: int, pending: Iterable[Any], paused: Paused) -> None:
    """Begins the trace if it is time, once what is pending is done.

    Args:
      step: which comes.
      pending: what the devices are still at.
      paused: time inside does not count as training.
    """
    if self._span is None or step < self._span.first or self._on:
      return
    if step > self._span.last:
      logger.warning(
        "profile=%s: the run goes on with step %d; nothing is traced",
        *(self._span, step),
      )
      self._span = None
      return
    with paused():
      jax.block_until_ready(list(pending))
      try:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._start(str(self._folder))
        self._on = True
      except (OSError, RuntimeError) as error:
        self._fail(error)

  def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
    """Around the dispatch of a step: gives it its number in the trace."""
    if not self._on:
      return contextlib.nullcontext()
    return jax.profiler.StepTraceAnnotation("train", step_num=number)

  def after(self, step: int, pending: Iterable[Any], paused: Paused) -> None:
    """Writes the trace if it is time; arguments as of `before`."""
    if not self._on or self._span is None or step < self._span.last:
      return
    with paused():
      jax.block_until_ready(list(pending))
      self._end()

  def _end(self) -> None:
    if not self._on:
      return
    self._on = False
    try:
      self._stop()
      logger.info(
        "steps %s are traced in %s: look at it with xprof --logdir %s",
        *(self._span, self._folder, self._folder),
      )
    except (OSError, RuntimeError) as error:
      self._fail(error)
    self._span = None

  def _fail(self, error: Exception) -> None:
    logger.warning("profile=%s failed: %s; the run goes on", self._span, error)
    self._span = None
