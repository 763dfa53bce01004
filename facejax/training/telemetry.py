"""What a run tells: console, train.log, metrics.jsonl, TensorBoard, trackers.

`metrics.jsonl` is kept by `facejax.runs.history`; `tensorboard/` holds the same
for TensorBoard, and `train.log` what the console showed, with the time of day.
"""

import contextlib
import io
import logging
import logging.handlers
import os
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import rich
import rich.console
import rich.logging

from facejax.runs import folder, history
from facejax.runtime import distributed, tensorboard, whole_files
from facejax.training import accounts, guards, log_line, stopwatch, trackers

logger = logging.getLogger(__name__)

# Marks a record that the console shows in another form.
_SHOWN = "shown"
_LOG_COLUMNS = 100
# Only this process's own flush writes: where that fails, it is noticed.
_NEVER = 10**6


def setup_logging(
  workdir: str | os.PathLike[str] | None = None,
  *,
  terminal: bool | None = None,
  primary: bool = True,
) -> logging.Logger:
  """Sends the log of facejax to the console and to `workdir/train.log`.

  Args:
    workdir: created when absent. Without it nothing is written yet: what is
      logged is kept for `log_to`.
    terminal: whether the console can show a progress bar; None finds out.
    primary: whether this is the process that speaks; others only warn, and
      write no file before `log_to`.

  Returns:
    The logger "facejax", whose former handlers are closed.
  """
  root = logging.getLogger("facejax")
  for handler in root.handlers[:]:
    root.removeHandler(handler)
    handler.close()
  root.setLevel(logging.INFO if primary else logging.WARNING)
  # Other libraries hang handlers on the root logger: no line comes twice.
  root.propagate = False
  root.addHandler(_console_handler(_is_terminal(terminal)))
  # Kept whatever the level and the number, until there is a target.
  root.addHandler(
    logging.handlers.MemoryHandler(sys.maxsize, logging.CRITICAL + 1)
  )
  if primary and workdir is not None:
    log_to(workdir)
  return root


def log_to(workdir: str | os.PathLike[str], *, process: int = 0) -> None:
  """Writes `workdir/train.log` from here on, and first what was kept for it.

  Args:
    workdir: created when absent.
    process: which of several this is; all but the first have a
      `train.PROCESS.log` of their own, made by the first warning.
  """
  root = logging.getLogger("facejax")
  path = pathlib.Path(workdir, folder.log_of(process))
  path.parent.mkdir(parents=True, exist_ok=True)
  to_file = _LogFile(path, encoding="utf-8", delay=process > 0)
  to_file.setFormatter(
    logging.Formatter("%(asctime)s %(levelname)s %(message)s")
  )
  for handler in root.handlers[:]:
    if isinstance(handler, logging.handlers.MemoryHandler):
      handler.setTarget(to_file)
      root.removeHandler(handler)
      handler.close()
  root.addHandler(to_file)


def show(table: rich.console.RenderableType) -> None:
  """Prints a table, and writes it into the log as plain text."""
  rich.print(table)
  paper = rich.console.Console(file=io.StringIO(), width=_LOG_COLUMNS)
  paper.print(table)
  text = paper.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]
  lines = "\n".join(line.rstrip() for line in text.splitlines())
  logger.info("\n%s", lines, extra={_SHOWN: True})


class _LogFile(logging.FileHandler):
  """A log that a full disk does not stop, nor fill the console for."""

  def handleError(self, record: logging.LogRecord) -> None:
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
      super().handleError(record)


class Telemetry:
  """Scalars and progress of one run.

  A progress bar on a terminal, a plain line for each `train` elsewhere; the
  lines reach the console through `setup_logging`. A run that resumes at
  `start_step` first forgets what was recorded of later steps.

  Args:
    workdir: created when absent.
    total_steps: where the run ends.
    start_step: finished steps at the start.
    batch_size: images per step, over all devices and processes.
    terminal: whether the console can show a progress bar; None finds out.
    primary: whether this is the process that speaks; others do nothing.
    account: of the run's time.
    tracked: trackers that are told the same scalars.
    devices: further figures at so many images/s, none of which waits.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    total_steps: int,
    batch_size: int,
    start_step: int = 0,
    terminal: bool | None = None,
    primary: bool = True,
    account: accounts.Account | None = None,
    tracked: trackers.Trackers | None = None,
    devices: Callable[[float], Mapping[str, float]] = lambda _: {},
  ):
    self._account = account or accounts.Account(None)
    self._tracked = tracked or trackers.Trackers()
    self._devices = devices
    self._total_steps = total_steps
    self._stopwatch = stopwatch.Stopwatch(batch_size=batch_size)
    self._stragglers = guards.Stragglers()
    self._starvation = guards.Starvation()
    self._open = contextlib.ExitStack()
    self._history = self._tensorboard = self._progress = None
    if not primary:
      return
    pathlib.Path(workdir).mkdir(parents=True, exist_ok=True)
    self._history = history.Writer(workdir, after=start_step)
    self._open.callback(self._history.close)
    self._tensorboard = tensorboard.Scalars(
      os.path.join(workdir, folder.TENSORBOARD),
      purge_step=start_step + 1 if start_step else None,
      flush_secs=_NEVER,
    )
    self._open.callback(self._tensorboard.close)
    if _is_terminal(terminal):
      self._progress = self._open.enter_context(log_line.progress_bar())
      self._task = self._progress.add_task(
        "train", total=total_steps, completed=start_step, text=""
      )

  def __enter__(self) -> Self:
    return self

  def __exit__(self, exception_type, exception, traceback) -> None:
    with whole_files.yielding_to(exception):
      self.close()

  def close(self) -> None:
    """Takes the bar down and closes the files."""
    self._open.close()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Time inside counts as waiting for input."""
    with self._stopwatch.waiting(), self._account.during("input"):
      yield

  @contextlib.contextmanager
  def paused(self, for_what: str = "other") -> Iterator[None]:
    """Time inside does not count as training.

    Args:
      for_what: compiling, saving, verifying or other.
    """
    with self._stopwatch.paused(), self._account.during(for_what):
      yield

  def saved(self) -> None:
    """The last step can be gone back to."""
    self._account.saved()

  def idle(self) -> contextlib.AbstractContextManager[None]:
    """Time inside is spent on waiting for the devices."""
    return self._stopwatch.idle()

  def advance(self, step: int) -> None:
    """Moves the bar, and the account of time on; cheap enough for every step."""
    self._stopwatch.advance(step)
    self._account.advance(step)
    if self._progress is not None:
      self._progress.update(self._task, completed=step)

  def train(
    self, step: int, scalars: Mapping[str, float], *, bad_images: int = 0
  ) -> None:
    """Records scalars of training, at each logging interval.

    Adds `images_per_s` and `input_wait` since the last call, the mean of all
    processes, `eta_s`, the figures of the devices, `goodput` (of all time so
    far, what went to steps that count), and the `bad_images` of all if there
    are any. Names a process that holds the others up. Of several processes, all
    must call.

    Args:
      step: of the run.
      scalars: the same in all processes.
      bad_images: that this process has met so far.
    """
    speed = self._stopwatch.lap(step)
    own = speed.pop("own_s")
    if distributed.count() > 1:
      found = distributed.gathered([speed["input_wait"], own, bad_images])
      waits, owns, bad = zip(*found, strict=True)
      speed["input_wait"] = statistics.fmean(waits)
      self._stragglers.update(step, owns, waits)
      bad_images = sum(bad)
    if bad_images:
      scalars = {**scalars, "bad_images": bad_images}
    speed["eta_s"] = self._stopwatch.seconds_left(step, self._total_steps)
    if self._history is not None:
      speed |= self._devices(speed["images_per_s"])
      speed["goodput"] = self._account.share()
      self._starvation.update(step, speed["input_wait"])
    self._record(step, "train", {**scalars, **speed})
    line = log_line.train(step, self._total_steps, scalars, speed)
    logger.info(line, extra={_SHOWN: self._progress is not None})
    if self._progress is not None:
      text = log_line.on_bar(scalars, speed)
      self._progress.update(self._task, completed=step, text=text)

  def evaluation(self, step: int, scalars: Mapping[str, float]) -> None:
    """Records scores, with keys such as `"lfw_dev_test/accuracy"`.

    All of them are recorded; the console shows the accuracies.
    """
    self._record(step, "eval", scalars)
    logger.info(log_line.evaluation(step, self._total_steps, scalars))

  def _record(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
    if self._history is None or self._tensorboard is None:
      return
    values = {name: float(value) for name, value in scalars.items()}
    self._history.add(step, kind, values)
    self._tensorboard.add(step, kind, values)
    self._tracked.add(step, kind, values)


def _is_terminal(terminal: bool | None) -> bool:
  return rich.get_console().is_terminal if terminal is None else terminal


def _console_handler(terminal: bool) -> logging.Handler:
  if terminal:
    # Through rich's console, which prints above the bar.
    handler = rich.logging.RichHandler(
      console=rich.get_console(), show_path=False, markup=False
    )
  else:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_PlainFormatter())
  handler.addFilter(lambda record: not getattr(record, _SHOWN, False))
  return handler


class _PlainFormatter(logging.Formatter):
  """The bare message, with its level in front from warnings on."""

  def format(self, record: logging.LogRecord) -> str:
    text = super().format(record)
    if record.levelno < logging.WARNING:
      return text
    return f"{record.levelname}: {text}"
