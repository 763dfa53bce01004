"""Figures of a training run, each drawn on a canvas of its own.

Nothing goes through pyplot, which keeps global state: the functions are safe in
a training loop, in threads and without a display.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes, figure, ticker
from matplotlib import legend as legends

from facejax.evals import verification as evals
from facejax.metrics import verification as metrics

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = (
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#000000",
)

_INK, _GRID = "#333333", "#dddddd"
_CURVE_POINTS = 1000
_SMOOTH_FROM = 100
# (key of a training record, title, label of the y axis)
_PANELS = (
  ("loss", "Training loss", "loss"),
  ("accuracy", "Training accuracy", "batch accuracy (%)"),
  ("target_cosine", "Cosine to the own class", "cosine"),
  ("learning_rate", "Learning rate", "learning rate"),
  ("gradient_norm", "Gradient norm", "L2 norm"),
)


def training_curves(history: Iterable[Mapping[str, Any]]) -> figure.Figure:
  """Draws what metrics.jsonl recorded over the steps.

  Five panels show the training records and one the verification accuracy of
  every evaluation. Where a resumed run repeats a step, the later record counts.
  Long series are drawn faintly under their moving average.

  Args:
    history: records `{"step": int, "kind": "train" | "eval", NAME: number}`;
      panels whose quantity never occurs stay empty and say so.
  """
  records = {"train": {}, "eval": {}}
  for record in history:
    if record.get("kind") in records:
      merged = records[record["kind"]].setdefault(record["step"], {})
      merged.update(record)
  out, panels = _grid(6, columns=3, size=(4.4, 3.2))
  for panel, (key, title, label) in zip(panels, _PANELS, strict=False):
    steps, values = _series(records["train"], key)
    values = 100 * values if "%" in label else values
    if len(steps) < _SMOOTH_FROM or key == "learning_rate":
      marker = "." if len(steps) < _SMOOTH_FROM else ""
      panel.plot(steps, values, color=COLOURS[0], marker=marker)
    else:
      _smooth_curve(panel, steps, values)
    if key == "gradient_norm" and np.any(values > 0):
      panel.set_yscale("log")
      panel.yaxis.set_major_formatter(ticker.LogFormatter())
      panel.yaxis.set_minor_formatter(ticker.LogFormatter())
    _dress(panel, title, "step", label)
  _evaluations(panels[-1], records["eval"])
  for panel in panels:
    locator = ticker.MaxNLocator(5, integer=True, min_n_ticks=1)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    _mark_empty(panel)
  return out


def roc_curves(results: Sequence[evals.Verification]) -> figure.Figure:
  """Draws true over false accept rate, with a logarithmic FAR axis.

  Steps, not slopes: each curve shows rates that a threshold reaches, down to
  half of the smallest FAR that the set's impostor pairs can resolve.

  Args:
    results: one curve each, in the order of the legend.
  """
  out, (panel,) = _grid(1, columns=1, size=(6.4, 4.8))
  lowest = 0.5 / max([np.sum(~result.same) for result in results], default=1)
  for number, result in enumerate(results):
    curve = metrics.roc(result.scores, result.same)
    far = np.geomspace(0.5 / np.sum(~result.same), 1, _CURVE_POINTS)
    rates = curve.tar[np.searchsorted(curve.far, far, side="right") - 1]
    error = result.metrics["equal_error_rate"]
    area = result.metrics["area_under_curve"]
    colour = COLOURS[number % len(COLOURS)]
    panel.plot(
      far,
      100 * rates,
      color=colour,
      drawstyle="steps-post",
      label=f"{result.name}: AUC {area:.3f}, EER {100 * error:.1f} %",
    )
    # A perfect set has no equal error rate that a logarithmic axis could show.
    place = max(error, far[0]), 100 * (1 - error)
    panel.plot(*place, "o", color=colour, clip_on=False)
  chance = np.geomspace(lowest, 1, 100)
  panel.plot(chance, 100 * chance, ":", color=_INK, label="chance")
  panel.set(xscale="log", xlim=(lowest, 1), ylim=(0, 101))
  _dress(
    panel,
    "Verification (dots: equal error rate)",
    "false accept rate (FAR)",
    "true accept rate (%)",
  )
  _plain_text(out.legend(loc="outside lower center", fontsize=9, frameon=False))
  return out


def score_histograms(results: Sequence[evals.Verification]) -> figure.Figure:
  """Draws the cosines of genuine and of impostor pairs, one panel a set.

  Args:
    results: one panel each; the dashed line is the mean threshold over folds.
  """
  out, panels = _grid(len(results), columns=3, size=(4.8, 3.4))
  for panel, result in zip(panels, results, strict=False):
    bins = int(np.clip(np.sqrt(len(result.scores)), 12, 60))
    edges = np.histogram_bin_edges(result.scores, bins)
    kinds = (("impostor", ~result.same), ("genuine", result.same))
    for colour, (kind, chosen) in zip(COLOURS[1::-1], kinds, strict=True):
      scores = result.scores[chosen]
      panel.hist(
        scores,
        bins=edges.tolist(),
        weights=np.full(scores.size, 100 / scores.size),
        histtype="stepfilled",
        facecolor=(colour, 0.3),
        edgecolor=colour,
        linewidth=1.2,
        label=f"{kind} ({scores.size:,})",
      )
    threshold = result.metrics["threshold"]
    label = f"threshold {threshold:.2f}"
    panel.axvline(threshold, 0, 0.9, color=_INK, ls="--", label=label)
    accuracy, std = result.metrics["accuracy"], result.metrics["accuracy_std"]
    title = f"{result.name}: {100 * accuracy:.2f} ± {100 * std:.2f} %"
    _dress(panel, title, "cosine of the pair", "share of pairs (%)")
    panel.margins(y=0.18)  # room for the legend
    panel.legend(
      loc="upper center",
      ncols=3,
      columnspacing=1,
      handlelength=1.5,
      fontsize=8,
      frameon=False,
    )
  return out


def _evaluations(
  panel: axes.Axes, records: Mapping[int, Mapping[str, Any]]
) -> None:
  keys = dict.fromkeys(
    key
    for record in records.values()
    for key in record
    if key.endswith("/accuracy")
  )
  for number, key in enumerate(keys):
    steps, values = _series(records, key)
    panel.plot(
      steps,
      100 * values,
      "o-",
      markersize=5,
      color=COLOURS[number % len(COLOURS)],
      label=key.removesuffix("/accuracy"),
    )
  _dress(panel, "Verification accuracy", "step", "accuracy (%)")
  if keys:
    _plain_text(panel.legend(fontsize=9, framealpha=0.8, edgecolor=_GRID))


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
  panel.plot(steps, values, color=COLOURS[0], alpha=0.25, linewidth=0.8)
  width = max(len(steps) // 50, 3)
  known = np.isfinite(values)
  window = np.ones(width)
  total = np.convolve(np.where(known, values, 0), window, mode="same")
  count = np.convolve(known, window, mode="same")
  mean = np.divide(
    total, count, out=np.full_like(total, np.nan), where=count > 0
  )
  panel.plot(steps, mean, color=COLOURS[0])


def _grid(
  count: int, *, columns: int, size: tuple[float, float]
) -> tuple[figure.Figure, list[axes.Axes]]:
  """A figure with `count` axes of `size` inches in rows of `columns`."""
  columns = max(min(columns, count), 1)
  rows = max(-(-count // columns), 1)
  out = figure.Figure((columns * size[0], rows * size[1]), layout="constrained")
  return out, [out.add_subplot(rows, columns, k + 1) for k in range(count)]


def _dress(panel: axes.Axes, title: str, x: str, y: str) -> None:
  panel.set_title(title, fontsize=11, color=_INK, parse_math=False)
  panel.set_xlabel(x, color=_INK)
  panel.set_ylabel(y, color=_INK)
  panel.spines[["top", "right"]].set_visible(False)
  panel.grid(color=_GRID, linewidth=0.6)
  panel.set_axisbelow(True)


def _mark_empty(panel: axes.Axes) -> None:
  if not any(np.isfinite(line.get_ydata()).any() for line in panel.lines):
    panel.set(xticks=[], yticks=[])
    panel.text(0.5, 0.5, "not recorded", ha="center", transform=panel.transAxes)


def _plain_text(legend: legends.Legend) -> None:
  for text in legend.get_texts():
    text.set_parse_math(False)  # a set's name may hold dollar signs
