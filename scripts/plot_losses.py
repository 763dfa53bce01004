"""Draws the target logit of every margin against the angle, and boundaries.

  python scripts/plot_losses.py --out docs/losses.png

writes docs/losses.png (logits divided by s, at the published parameters) and
docs/losses_boundaries.png (where two classes meet).
"""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib import axes as axes_lib
from matplotlib import figure

from facejax.losses import (
  adaptive,
  binary,
  bounds,
  circle,
  curricular,
  margins,
  multiplicative,
)

# Colour-blind safe.
COLORS = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
GREY = "#999999"
DEGREES = np.linspace(0, 180, 1441)
COSINES = np.cos(np.deg2rad(DEGREES))
TICKS = range(0, 181, 45)
# Rows of (title, {label: function of the cosine}). Labels that begin with
# "others" are of another class: dashed.
Panel = tuple[str, dict[str, Callable[..., Any]]]
partial = functools.partial


def other(function: Callable[..., Any], **options) -> Callable[..., Any]:
  """A function of another class, for a true class that is at 60 degrees."""
  return lambda cosine: function(cosine, 0.5, **options)


def arcface(margin: float, guard: margins.Guard) -> Callable[..., Any]:
  return partial(margins.arcface, margin=margin, guard=guard)


def additive() -> list[Panel]:
  return [
    (
      "CosFace (AM-Softmax), UniFace",
      {
        "m = 0.35": partial(margins.cosface, margin=0.35),
        "UniFace 0.4, 10,572 classes": partial(
          binary.uniface, margin=0.4, bias=binary.uniface_bias(10_572)
        ),
      },
    ),
    (
      "ArcFace, m = 0.5, by guard",
      {
        "fallback": arcface(0.5, "fallback"),
        "none": arcface(0.5, "none"),
        "clip": arcface(0.5, "clip"),
        "easy": arcface(0.5, "easy"),
      },
    ),
    (
      "combined margin (m1, m2, m3)",
      {
        "1, 0.3, 0.2": partial(margins.combined, m1=1.0, m2=0.3, m3=0.2),
        "0.9, 0.4, 0.15": partial(margins.combined, m1=0.9, m2=0.4, m3=0.15),
      },
    ),
    (
      "ElasticFace, two deviations about 0.5",
      {"m = 0.6": arcface(0.6, "none"), "m = 0.4": arcface(0.4, "none")},
    ),
  ]


def by_example() -> list[Panel]:
  modulated = partial(other, curricular.curricularface_negative)
  second = partial(binary.sphereface2, bias=0.0, scale=40.0)
  second_others = partial(other, binary.sphereface2_negative, bias=0.0)
  return [
    (
      "AdaFace, m = 0.4, by quality",
      {
        f"k = {quality}": partial(
          adaptive.adaface, quality=jnp.float32(quality)
        )
        for quality in (1, 0, -1)
      },
    ),
    (
      "MagFace, by length",
      {
        "110: m = 0.8": arcface(0.8, "easy"),
        "10: m = 0.45": arcface(0.45, "easy"),
      },
    ),
    (
      "CurricularFace, m = 0.5, target at 60°",
      {
        "target": arcface(0.5, "fallback"),
        "others, t = 0": modulated(average=0.0),
        "others, t = 0.8": modulated(average=0.8),
      },
    ),
    (
      "SphereFace2, b = 0",
      {
        "C, m = 0.4": partial(second, kind="C", margin=0.4),
        "A, m = 0.5": partial(second, kind="A", margin=0.5),
        "M, m = 1.7": partial(second, kind="M", margin=1.7),
        "others, C": second_others(margin=0.4, scale=40.0),
      },
    ),
  ]


def steep() -> list[Panel]:
  annealed = partial(multiplicative.a_softmax, margin=4)
  narrow = partial(other, multiplicative.sphereface_r_negative)
  return [
    (
      "L-Softmax, A-Softmax: ψ",
      {f"m = {m}": partial(multiplicative.psi, margin=m) for m in (4, 3, 2)},
    ),
    (
      "A-Softmax, m = 4, annealed",
      {
        "λ = 0": partial(annealed, strength=0.0),
        "λ = 5, where it ends": partial(annealed, strength=5.0),
        "λ = 20": partial(annealed, strength=20.0),
      },
    ),
    (
      "SphereFace, any real m",
      {
        "m = 1.7": partial(multiplicative.sphereface, margin=1.7),
        "R v1, m = 1.5": partial(multiplicative.sphereface_r, margin=1.5),
        "others, R v2, m = 1.4": narrow(margin=1.4),
      },
    ),
    (
      "circle, m = 0.25",
      {
        "target": partial(circle.circle, margin=0.25),
        "others": other(circle.circle_negative, margin=0.25),
      },
    ),
  ]


def draw_logits() -> figure.Figure:
  """A small picture of each family, beside the plain cosine in grey."""
  canvas = figure.Figure(figsize=(12, 9), layout="constrained")
  grid = canvas.subplots(3, 4, sharex=True, sharey="row")
  for row, panels in zip(
    grid, (additive(), by_example(), steep()), strict=True
  ):
    for axes, panel in zip(row, panels, strict=True):
      draw_panel(axes, panel)
    row[0].set_ylabel("logit / s")
  grid[0, 0].annotate(
    "cos θ", (95, np.cos(np.deg2rad(95))), (5, 2), textcoords="offset points",
    color=GREY, fontsize=9,
  )  # fmt: skip
  for axes in grid[-1]:
    axes.set(xlabel="angle θ, degrees", xticks=TICKS, xlim=(0, 180))
  return canvas


def draw_panel(axes: axes_lib.Axes, panel: Panel) -> None:
  title, curves = panel
  axes.plot(DEGREES, COSINES, color=GREY, linewidth=1)
  for (label, function), color in zip(curves.items(), COLORS, strict=False):
    values = np.broadcast_to(np.asarray(function(COSINES)), COSINES.shape)
    # No line is drawn across a jump.
    jump = np.abs(np.diff(values, append=values[-1])) > 0.05
    dashes = "--" if label.startswith("others") else "-"
    # Where curves are equal, the first lies on top.
    order = 3 - len(axes.lines) / 10
    axes.plot(
      DEGREES,
      np.where(jump, np.nan, values),
      color=color,
      linestyle=dashes,
      label=label,
      zorder=order,
    )
  axes.set_title(title, fontsize=10)
  axes.legend(frameon=False, fontsize=8, handlelength=1.8)
  axes.spines[["top", "right"]].set_visible(False)


def draw_boundaries() -> figure.Figure:
  """Which class training takes an example for, by its two angles."""
  twice = {
    "modified softmax, NSL": bounds.nsl_boundary,
    "A-Softmax, m = 4": partial(bounds.a_softmax_boundary, margin=4),
    "CosFace, m = 0.35": partial(bounds.cosface_boundary, margin=0.35),
    "ArcFace, m = 0.5": partial(bounds.arcface_boundary, margin=0.5),
  }
  cases = {
    "softmax, |w₁| = 1.5 |w₂|": (
      partial(bounds.softmax_boundary, ratio=1.5),
      partial(bounds.softmax_boundary, ratio=1 / 1.5),
    )
  } | {title: (function, function) for title, function in twice.items()}
  canvas = figure.Figure(figsize=(13, 3.1), layout="constrained")
  row = canvas.subplots(1, len(cases), sharey=True)
  for axes, (title, functions) in zip(row, cases.items(), strict=True):
    # Past the last angle that a boundary reaches, its class has nothing.
    first, second = (
      np.nan_to_num(np.rad2deg(function(np.deg2rad(DEGREES))), nan=180)
      for function in functions
    )
    fill = {"alpha": 0.3, "linewidth": 0}
    axes.fill_between(DEGREES, first, 180, color=COLORS[0], **fill)
    axes.fill_betweenx(DEGREES, second, 180, color=COLORS[1], **fill)
    axes.plot([0, 180], [0, 180], color=GREY, linewidth=1, linestyle=":")
    axes.set_title(title, fontsize=10)
    axes.set(xlim=(0, 180), ylim=(0, 180), xticks=TICKS, yticks=TICKS)
    axes.set(xlabel="θ₁, degrees", aspect="equal")
    axes.spines[["top", "right"]].set_visible(False)
  row[0].set_ylabel("θ₂, degrees")
  row[0].text(12, 150, "class 1", fontsize=9)
  row[0].text(125, 20, "class 2", fontsize=9)
  row[2].text(75, 130, "neither", fontsize=9)
  return canvas


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("docs/losses.png"),
    help="the picture of the logits (default docs/losses.png)",
  )
  out = parser.parse_args().out
  boundaries = out.with_stem(f"{out.stem}_boundaries")
  draw_logits().savefig(out, dpi=110)
  draw_boundaries().savefig(boundaries, dpi=110)
  print(f"{out}\n{boundaries}")


if __name__ == "__main__":
  main()
