"""Figures of a result, each drawn on a canvas of its own.

Nothing goes through pyplot, which keeps global state: the functions are safe in
a training loop, in threads and without a display.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes, figure, ticker
from scipy import special

from facejax.metrics import curves

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = (
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#e69f00",
  "#56b4e9",
  "#8c6bb1",
  "#7f7f7f",
)
INK, FAINT = "#333333", "#dddddd"
# Two figures stand side by side on a page.
_SIZE = (5.4, 3.5)

# Rates of a DET plot to normal deviates and back; the scale asks for any number.
_TINY = 1e-12
_DEVIATES = (
  lambda rates: curves.normal_deviates(np.clip(rates, _TINY, 1 - _TINY)),
  special.ndtr,
)
_DET_TICKS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)

Curve = Mapping[str, Any]


def roc(curve: Curve) -> figure.Figure:
  """Draws true over false accept rate, with a logarithmic FAR axis.

  Steps, not slopes: each shows rates that a threshold reaches, down to half of
  the smallest FAR that the impostor pairs can resolve.
  """
  out, axis = panel("false accept rate (FAR)", "true accept rate (%)")
  far, tar = (np.asarray(curve[key], float) for key in ("far", "tar"))
  lowest = 0.5 / curve["impostor"]
  axis.plot(
    np.maximum(far, lowest), 100 * tar, color=COLOURS[0], drawstyle="steps-post"
  )
  error = curve["equal_error_rate"]
  # A perfect set has no equal error rate that a logarithmic axis could show.
  axis.plot(
    max(error, lowest),
    100 * (1 - error),
    "o",
    color=COLOURS[0],
    clip_on=False,
    label=f"equal error rate {100 * error:.2f} %",
  )
  chance = np.geomspace(lowest, 1, 60)
  axis.plot(chance, 100 * chance, ":", color=INK, label="chance")
  bottom = max(0, 100 * float(tar[far <= lowest].max(initial=0)) - 5)
  axis.set(xscale="log", xlim=(lowest, 1), ylim=(min(bottom, 80), 101))
  axis.legend(loc="upper left", fontsize=9, frameon=False)
  return out


def det(curve: Curve) -> figure.Figure:
  """Draws FNMR over FMR, both axes in normal deviates (ISO/IEC 19795-1).

  Scores whose two kinds are normally distributed make a straight line.
  """
  out, axis = panel("false match rate FMR (%)", "false non-match rate FNMR (%)")
  far, tar = (np.asarray(curve[key], float) for key in ("far", "tar"))
  lowest = 0.5 / curve["impostor"], 0.5 / curve["genuine"]
  axis.plot(
    np.maximum(far, lowest[0]),
    np.maximum(1 - tar, lowest[1]),
    color=COLOURS[1],
    drawstyle="steps-post",
  )
  # Errors above one half are of no use to anybody, unless there are no others.
  highest = 0.5 if max(*lowest, curve["equal_error_rate"]) < 0.4 else 0.99
  ends = max(lowest), highest
  axis.plot(ends, ends, ":", color=INK)  # the caption tells what it is
  for k, one in enumerate((axis.xaxis, axis.yaxis)):
    (axis.set_xscale, axis.set_yscale)[k]("function", functions=_DEVIATES)
    (axis.set_xlim, axis.set_ylim)[k](lowest[k], highest)
    shown = [rate for rate in _DET_TICKS if lowest[k] <= rate <= highest]
    one.set_major_locator(ticker.FixedLocator(shown))
    one.set_major_formatter(lambda rate, _: f"{100 * rate:.4g}")
    one.set_minor_locator(ticker.NullLocator())
  return out


def histogram(curve: Curve) -> figure.Figure:
  """Draws the cosines of what is not and what is the same person."""
  out, axis = panel("cosine", "share of each kind (%)")
  edges = np.asarray(curve["edges"], float)
  for colour, kind, numbers in zip(
    COLOURS[1::-1], curve["kinds"], curve["counts"], strict=True
  ):
    total = max(sum(numbers), 1)
    axis.stairs(
      100 * np.asarray(numbers) / total,
      edges,
      fill=True,
      facecolor=(colour, 0.3),
      edgecolor=colour,
      linewidth=1.2,
      label=f"{kind} ({sum(numbers):,})",
    )
  threshold = curve.get("threshold")
  if threshold is not None:
    label = f"threshold {threshold:.3f}"
    axis.axvline(threshold, 0, 0.86, color=INK, ls="--", lw=1.2, label=label)
  axis.margins(y=0.24)  # room for the legend
  axis.set_ylim(bottom=0)
  axis.legend(loc="upper center", ncols=3, fontsize=8, frameon=False)
  return out


def cmc(curve: Curve) -> figure.Figure:
  """Draws the share of probes whose mate is among the best k people."""
  out, axis = panel("rank k", "mate among the best k (%)")
  rates = 100 * np.asarray(curve["rate"], float)
  axis.plot(curve["rank"], rates, "o-", ms=3, color=COLOURS[2])
  axis.set_xlim(0.5, curve["rank"][-1] + 0.5)
  axis.set_ylim(min(rates[0] - 5, 90), 101)
  axis.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))
  return out


def distractors(curve: Curve) -> figure.Figure:
  """Draws rank-1 over the number of distractors, on a logarithmic axis."""
  out, axis = panel("distractors", "mate above all of them (%)")
  rates = 100 * np.asarray(curve["rate"], float)
  axis.plot(curve["count"], rates, "o-", ms=4, color=COLOURS[2])
  axis.set(xscale="log", ylim=(max(0, min(float(rates.min()) - 5, 90)), 101))
  return out


def open_set(curve: Curve) -> figure.Figure:
  """Draws mates that are found over strangers that pass."""
  out, axis = panel(
    "strangers named as somebody (FPIR)", "mates found (TPIR, %)"
  )
  rates = 100 * np.asarray(curve["tpir"], float)
  axis.plot(curve["fpir"], rates, "o-", ms=3, color=COLOURS[3])
  axis.set(xscale="log", ylim=(min(float(rates.min()) - 5, 90), 101))
  return out


def people_map(curve: Curve) -> figure.Figure:
  """Draws embeddings of some people in their main plane."""
  shares = [f"{100 * share:.0f} %" for share in curve["explained"]]
  out, axis = panel(
    f"first principal component ({shares[0]})",
    f"second principal component ({shares[-1]})",
    size=(_SIZE[0], 4.2),
  )
  person = np.asarray(curve["person"])
  for k, name in enumerate(curve["names"]):
    mine = person == k
    axis.scatter(
      np.asarray(curve["x"])[mine],
      np.asarray(curve["y"])[mine],
      s=22,
      color=COLOURS[k % len(COLOURS)],
      marker="os^vDPX*"[k % 8],
      linewidths=0,
      label=str(name)[:28],
    )
  legend = out.legend(
    loc="outside lower center", ncols=2, fontsize=8, frameon=False
  )
  plain_text(legend)
  return out


def reject(curve: Curve) -> figure.Figure:
  """Draws false rejects that stay when pairs of least quality are set aside."""
  out, axis = panel(
    "pairs set aside, least quality first (%)", "false reject rate (%)"
  )
  for k, one in enumerate(qualities(curve)):
    axis.plot(
      100 * np.asarray(one["rejected"], float),
      100 * np.asarray(one["frr"], float),
      "osD^"[k % 4] + "-",
      ms=3,
      color=COLOURS[(4 + k) % len(COLOURS)],
      label=one["name"],
    )
  axis.set_ylim(bottom=0)
  axis.legend(loc="best", fontsize=9, frameon=False)
  return out


def qualities(curve: Curve) -> Sequence[Curve]:
  """The curves by quality; results of before have that of lengths alone."""
  return curve.get("qualities") or [{"name": "norm", **curve}]


def reliability(curve: Curve) -> figure.Figure:
  """Draws what was said of pairs and what was so, bin by bin."""
  out, axis = panel("said: one person (%)", "found: one person (%)")
  said, found, low, high = (
    100 * np.asarray(curve[key], float)
    for key in ("said", "found", "low", "high")
  )
  axis.plot((0, 100), (0, 100), ":", color=INK)  # the caption tells what it is
  axis.vlines(said, low, high, color=COLOURS[5], linewidth=2)
  axis.plot(said, found, "o-", ms=4, color=COLOURS[0])
  axis.set(xlim=(-2, 102), ylim=(-2, 102))
  return out


DRAW: Mapping[str, Callable[[Curve], figure.Figure]] = {
  "roc": roc,
  "det": det,
  "histogram": histogram,
  "cmc": cmc,
  "open_set": open_set,
  "distractors": distractors,
  "map": people_map,
  "reject": reject,
  "reliability": reliability,
}


def panel(
  x: str, y: str, *, size: tuple[float, float] = _SIZE
) -> tuple[figure.Figure, axes.Axes]:
  """A figure of one panel, transparent, in the colours of a page."""
  out = figure.Figure(size, layout="constrained")
  out.patch.set_visible(False)
  axis = out.add_subplot()
  axis.patch.set_visible(False)
  axis.set_xlabel(x, color=INK)
  axis.set_ylabel(y, color=INK)
  axis.tick_params(which="both", color=INK, labelcolor=INK, labelsize=9)
  axis.spines[["top", "right"]].set_visible(False)
  axis.spines[["bottom", "left"]].set_color(INK)
  axis.grid(color=FAINT, linewidth=0.6)
  axis.set_axisbelow(True)
  return out, axis


def plain_text(legend) -> None:
  """Takes names in a legend as they are."""
  for text in legend.get_texts():
    text.set_parse_math(False)  # a set's name may hold dollar signs
