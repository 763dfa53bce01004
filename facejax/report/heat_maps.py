"""Rates by group, as matrices of colours with their numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import axes, colors, figure

from facejax.report import plots

# From the page's paper to the colour of false matches.
_COLOURS = colors.LinearSegmentedColormap.from_list(
  "facejax", ["#ffffff", plots.COLOURS[1]]
)
_LEAST, _CELL = 1e-6, 0.55  # of a rate; inches


def groups(curve: Mapping[str, Any]) -> figure.Figure:
  """Draws FMR of each two groups, and FNMR of each below."""
  found = curve["groupings"]
  cells = [len(one["names"]) for one in found]
  width = 2.2 + _CELL * max(cells) * 1.6
  heights = [1.0 + _CELL * (count + 1) for count in cells]
  out = figure.Figure((max(width, 5.4), sum(heights)), layout="constrained")
  out.patch.set_visible(False)
  panels = out.subplots(
    len(found), 1, squeeze=False, gridspec_kw={"height_ratios": heights}
  )
  for panel, one in zip(panels[:, 0], found, strict=True):
    _matrix(panel, one)
  return out


def _matrix(panel: axes.Axes, one: Mapping[str, Any]) -> None:
  fmr = np.asarray(one["fmr"], float)
  fnmr = np.asarray(one["fnmr"], float)[None, :]
  names = [str(name)[:20] for name in one["names"]]
  # Each of the two in colours of its own range: they are of different size.
  shown = np.vstack([_shade(fmr), _shade(fnmr)])
  panel.imshow(shown, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto")
  for (row, column), rate in np.ndenumerate(np.vstack([fmr, fnmr])):
    text = "-" if np.isnan(rate) else f"{100 * rate:.3g}"
    panel.text(
      column, row, text, ha="center", va="center", fontsize=8, color="#222222"
    )
  ticks = range(len(names))
  panel.set_xticks(ticks, names, rotation=30, ha="right")
  panel.set_yticks(range(len(names) + 1), [*names, "FNMR"])
  panel.axhline(len(names) - 0.5, color=plots.INK, linewidth=1.2)
  panel.set_title(
    f"{one['what']}: FMR (%), and FNMR (%) below", fontsize=9, color=plots.INK
  )
  panel.tick_params(
    color=plots.INK, labelcolor=plots.INK, labelsize=8, length=0
  )
  panel.spines[:].set_visible(False)
  for label in (
    *panel.get_xticklabels(),
    *panel.get_yticklabels(),
    panel.title,
  ):
    label.set_parse_math(False)  # a group's name may hold dollar signs


def _shade(rates: np.ndarray) -> np.ndarray:
  """0 to 0.8, by the logarithm between the least and the largest rate."""
  logs = np.log(np.maximum(rates, _LEAST))
  low, high = np.nanmin(logs), np.nanmax(logs)
  return np.nan_to_num(0.8 * (logs - low) / max(high - low, 1e-9))
