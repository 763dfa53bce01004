"""Scalars of a run as a person reads them: a line of the log, the bar."""

import math
from collections.abc import Mapping

import rich
import rich.progress

from facejax.runtime import progress

# What the console shows of an evaluation.
_HEADLINES = ("/accuracy", "/accuracy_std", "/accuracy_at_given_threshold")
_SHORT_NAMES = {
  "learning_rate": "lr",
  "head_learning_rate": "head lr",
  "accuracy": "acc",
}
_ON_BAR = ("loss", "learning_rate")


def train(
  step: int,
  total_steps: int,
  scalars: Mapping[str, float],
  speed: Mapping[str, float],
) -> str:
  """The line of a training step.

  Args:
    step: of the run.
    total_steps: of the run.
    scalars: of the step.
    speed: what `Telemetry.train` adds: speed, devices, goodput.
  """
  parts = [_plain(scalars), *_speed(speed), *_devices(speed), *_ahead(speed)]
  return f"step {step}/{total_steps}  {'  '.join(parts)}"


def on_bar(scalars: Mapping[str, float], speed: Mapping[str, float]) -> str:
  """What the bar shows beside its steps."""
  shown = {name: scalars[name] for name in _ON_BAR if name in scalars}
  return "  ".join([_plain(shown), *_speed(speed), *_ahead(speed)])


def evaluation(
  step: int, total_steps: int, scalars: Mapping[str, float]
) -> str:
  """The line of a verification: its accuracies, where it has any."""
  shown = {k: v for k, v in scalars.items() if k.endswith(_HEADLINES)}
  return f"step {step}/{total_steps}  {_plain(shown or scalars)}"


def progress_bar() -> rich.progress.Progress:
  """The bar of a run, on rich's console; its field is "text"."""
  return rich.progress.Progress(
    rich.progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
    rich.progress.BarColumn(),
    rich.progress.TextColumn("{task.fields[text]}", markup=False),
    console=rich.get_console(),
    refresh_per_second=4,
  )


def _plain(scalars: Mapping[str, float]) -> str:
  return "  ".join(
    f"{_SHORT_NAMES.get(name, name)} {value:.4g}"
    for name, value in scalars.items()
  )


def _speed(speed: Mapping[str, float]) -> list[str]:
  rate = speed["images_per_s"]
  if not math.isfinite(rate):
    return []
  text = f"{rate:{'.0f' if rate >= 100 else '.3g'}} images/s"
  return [text, f"wait {speed['input_wait']:.0%}"]


def _devices(speed: Mapping[str, float]) -> list[str]:
  """Operations and their share of the peak, memory, goodput: what is known."""
  parts = []
  if math.isfinite(speed.get("model_tflops", math.nan)):
    parts.append(f"{speed['model_tflops']:.3g} TFLOP/s")
    if "peak_share" in speed:
      parts[-1] += f" ({speed['peak_share']:.1%} of the peak)"
  if "memory_gib" in speed:
    now, most = speed["memory_gib"], speed["peak_memory_gib"]
    parts.append(f"memory {now:.1f} GiB (most {most:.1f})")
  if "goodput" in speed:
    parts.append(f"goodput {speed['goodput']:.0%}")
  return parts


def _ahead(speed: Mapping[str, float]) -> list[str]:
  seconds = speed["eta_s"]
  if not math.isfinite(seconds):
    return []
  return [f"eta {progress.duration(seconds)}"]
