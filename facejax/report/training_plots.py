"""Figures of what metrics.jsonl recorded while a run trained."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib import axes, figure, ticker

from facejax.report import plots

_SIZE = (4.2, 2.6)
_SMOOTH_FROM = 100
_MOST_DRAWN = 1000
# (key of a training record, title, label of the y axis)
_PANELS = (
  ("loss", "Training loss", "loss"),
  ("accuracy", "Training accuracy", "batch accuracy (%)"),
  ("target_cosine", "Cosine to the own class", "cosine"),
  ("learning_rate", "Learning rate", "learning rate"),
  ("gradient_norm", "Gradient norm", "L2 norm"),
)


def curves(
  history: Iterable[Mapping[str, Any]],
) -> dict[str, figure.Figure]:
  """Draws what metrics.jsonl recorded over the steps, a figure a quantity.

  Where a resumed run repeats a step, the later record counts. Long series are
  drawn faintly under their moving average. A quantity that was never recorded
  has no figure.

  Args:
    history: records `{"step": int, "kind": "train" | "eval", NAME: number}`.

  Returns:
    Figures by title.
  """
  records = {"train": {}, "eval": {}}
  for record in history:
    if record.get("kind") in records:
      merged = records[record["kind"]].setdefault(record["step"], {})
      merged.update(record)
  drawn = {}
  for key, title, label in _PANELS:
    steps, values = _series(records["train"], key)
    if not np.isfinite(values).any():
      continue
    values = 100 * values if "%" in label else values
    drawn[title], panel = plots.panel("step", label, size=_SIZE)
    if len(steps) < _SMOOTH_FROM or key == "learning_rate":
      marker = "." if len(steps) < _SMOOTH_FROM else ""
      panel.plot(
        *_thinned(steps, values), color=plots.COLOURS[0], marker=marker
      )
    else:
      _smooth_curve(panel, steps, values)
    if key == "gradient_norm" and np.any(values > 0):
      panel.set_yscale("log")
      panel.yaxis.set_major_formatter(ticker.LogFormatter())
      panel.yaxis.set_minor_formatter(ticker.LogFormatter())
    _count_steps(panel)
  evaluated = _evaluations(records["eval"])
  if evaluated is not None:
    drawn["Verification accuracy"] = evaluated
  return drawn


def _evaluations(
  records: Mapping[int, Mapping[str, Any]],
) -> figure.Figure | None:
  keys = dict.fromkeys(
    key
    for record in records.values()
    for key in record
    if key.endswith("/accuracy")
  )
  if not keys:
    return None
  out, panel = plots.panel("step", "accuracy (%)", size=_SIZE)
  for number, key in enumerate(keys):
    steps, values = _series(records, key)
    panel.plot(
      steps,
      100 * values,
      "o-",
      markersize=4,
      color=plots.COLOURS[number % len(plots.COLOURS)],
      label=key.removesuffix("/accuracy"),
    )
  _count_steps(panel)
  plots.plain_text(panel.legend(fontsize=8, frameon=False))
  return out


def _series(
  records: Mapping[int, Mapping[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Steps and values of one quantity; what is not finite becomes a gap."""
  found = [(s, records[s][key]) for s in sorted(records) if key in records[s]]
  steps, values = np.array(found, float).reshape(-1, 2).T
  return steps, np.where(np.isfinite(values), values, np.nan)


def _smooth_curve(
  panel: axes.Axes, steps: np.ndarray, values: np.ndarray
) -> None:
  """Draws a faint line under its centred mean over a fiftieth of the run."""
  panel.plot(
    *_thinned(steps, values), color=plots.COLOURS[0], alpha=0.3, linewidth=0.8
  )
  width = max(len(steps) // 50, 3)
  known = np.isfinite(values)
  window = np.ones(width)
  total = np.convolve(np.where(known, values, 0), window, mode="same")
  count = np.convolve(known, window, mode="same")
  mean = np.divide(
    total, count, out=np.full_like(total, np.nan), where=count > 0
  )
  panel.plot(*_thinned(steps, mean), color=plots.COLOURS[0])


def _thinned(
  steps: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """At most so many points that a page stays small."""
  every = -(-len(steps) // _MOST_DRAWN)
  return steps[::every], values[::every]


def _count_steps(panel: axes.Axes) -> None:
  locator = ticker.MaxNLocator(5, integer=True, min_n_ticks=1)
  panel.xaxis.set_major_locator(locator)
  panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
