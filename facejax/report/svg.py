"""Figures as SVG within a page, in the colours of the reader's theme."""

import io
import re
from typing import Any

import matplotlib
from matplotlib import figure

from facejax.report import plots

# The page's style sheet gives these values, one set for light, one for dark.
_VARIABLES = {
  plots.INK: "var(--ink)",
  plots.FAINT: "var(--faint)",
  "#000000": "var(--ink)",
  "#ffffff": "var(--paper)",
} | {colour: f"var(--c{k})" for k, colour in enumerate(plots.COLOURS)}
_COLOUR = re.compile("|".join(map(re.escape, _VARIABLES)))
_STYLE = re.compile(r'\bstyle="[^"]*"')
_FONT = re.compile(r" ?font-family: [^;\"]*;?")
# What a page does not want of a file of its own.
_AROUND = re.compile(
  r"\A.*?(?=<svg)|<metadata>.*?</metadata>|<style .*?</style>", re.DOTALL
)
_SIZE = re.compile(r' (?:width|height)="[^"]*"')


def inline(drawn: figure.Figure, *, key: str) -> str:
  """The `<svg>` element of a figure.

  Text stays text, in the font of the page; colours become its variables.

  Args:
    drawn: the figure.
    key: differs from that of any other figure on the page, whose clip paths
      would otherwise be taken for its own.
  """
  out = io.StringIO()
  settings: Any = {"svg.fonttype": "none", "svg.hashsalt": key}
  with matplotlib.rc_context(settings):
    drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
  text = _AROUND.sub("", out.getvalue())
  head, rest = text.split(">", 1)
  # The page says how wide it is, the view box how high then.
  text = f"{_SIZE.sub('', head)}>{rest}"
  text = _STYLE.sub(lambda found: _themed(found[0]), text)
  return re.sub(r"\s*\n\s*", "\n", _unique(text, key))


def _themed(style: str) -> str:
  style = _FONT.sub("", style)
  return _COLOUR.sub(lambda found: _VARIABLES[found[0]], style)


def _unique(text: str, key: str) -> str:
  """Gives every name within a figure the figure's own."""
  text = re.sub(r'\bid="', f'id="{key}-', text)
  text = re.sub(r"url\(#", f"url(#{key}-", text)
  return re.sub(r'href="#', f'href="#{key}-', text)
