"""How far a long job is: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

_LINES_EVERY = 10.0


@contextlib.contextmanager
def counting(
  what: str,
  total: int,
  *,
  unit: str = "images",
  patience: float = 2.0,
  terminal: bool | None = None,
) -> Iterator[Callable[[int], None]]:
  """Tells how many of many are done, how fast, and when all will be.

  Args:
    what: Such as "aligned"; comes before the numbers.
    total: How many there are.
    unit: What is counted.
    patience: Seconds that pass before anything is told: a short job is silent.
    terminal: Whether the console can show a bar; None finds out.

  Yields:
    A function that is told how many more are done.
  """
  # Not among the answers, which may be piped on.
  console = rich.console.Console(stderr=True)
  terminal = console.is_terminal if terminal is None else terminal
  bar = rich.progress.Progress(
    rich.progress.TextColumn("{task.description}", markup=False),
    rich.progress.BarColumn(),
    rich.progress.TextColumn("{task.fields[text]}", markup=False),
    console=console,
    refresh_per_second=4,
  )
  task = bar.add_task(what, total=total, text="")
  done, started = 0, time.monotonic()
  next_at = started + patience

  def advance(count: int) -> None:
    nonlocal done, next_at
    done += count
    now = time.monotonic()
    if now < next_at:
      return
    text = _text(done, total, unit, now - started)
    if terminal:
      next_at = now
      bar.start()
      bar.update(task, completed=done, text=text)
    else:
      next_at = now + _LINES_EVERY
      # Not through rich, which would fold the line at 80 columns.
      print(f"{what} {text}", file=sys.stderr, flush=True)

  try:
    yield advance
  finally:
    # One that was never started prints an empty line.
    if bar.live.is_started:
      bar.stop()


def _text(done: int, total: int, unit: str, seconds: float) -> str:
  """As in 1,200/13,233 images  240 images/s  eta 50 s.

  >>> _text(1200, 13233, "images", 5.0)
  '1,200/13,233 images  240 images/s  eta 50 s'
  """
  rate = done / max(seconds, 1e-9)
  speed = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
  text = f"{done:,}/{total:,} {unit}  {speed} {unit}/s"
  if not rate:
    return text
  return f"{text}  eta {duration(max(0, total - done) / rate)}"


def duration(seconds: float) -> str:
  """A time that something took or will take, as people read it.

  >>> duration(0.052), duration(41.7), duration(192.4), duration(3792)
  ('0.052 s', '42 s', '3:12', '1:03:12')
  """
  if seconds < 59.5:
    return f"{seconds:.2g} s"
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
  return f"{clock}:{seconds:02}"
