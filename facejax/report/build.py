"""From the files in the folder of a run to report/index.html."""

import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import figure

import facejax
from facejax.report import (
  captions,
  heat_maps,
  pages,
  plots,
  svg,
  training_plots,
)
from facejax.runs import card as card_lib
from facejax.runs import folder, goodput, history, metrics_file, results
from facejax.runtime import progress, text_lines, whole_files

logger = logging.getLogger(__name__)

PAGE = "index.html"
_DRAW = {**plots.DRAW, "groups": heat_maps.groups}
# What a tile shows of each kind of result, beside its first figure.
_HEADLINES = {
  "verification": ("tar_at_far_1e-3", "tar_at_far_1e-2"),
  "identification": ("tpir_at_fpir", "pairwise_f_cross_fitted"),
  "clustering": ("bcubed_f_cross_fitted",),
  "templates": ("rank_1",),
  "megaface": ("tar_at_far_1e-6",),
}
# What stands side by side of several sets of pairs.
_SIDE_BY_SIDE = ("accuracy_facenet", "accuracy_at_given_threshold")
_SIDE_BY_SIDE += ("tar_at_far_1e-2", "tar_at_far_1e-3", "equal_error_rate")
_SIDE_BY_SIDE += ("area_under_curve",)
_CARD = ("net", "embedding_dim", "image_size", "crop", "exif", "norm", "dtype")
_CARD += ("lora", "averaged", "trained_on", "images", "identities", "loss")
_CARD += ("source", "threshold")


class Drawn(NamedTuple):
  """A figure on the page."""

  title: str
  caption: str
  svg: Any


class Overview(NamedTuple):
  """Several sets of pairs, a row each: its anchor, its name, its figures."""

  columns: Sequence[str]
  rows: Sequence[tuple[str, str, Sequence[str]]]


class Section(NamedTuple):
  """A result on the page."""

  name: str
  anchor: str
  result: results.Result
  headlines: Sequence[results.Quantity]
  figures: Sequence[Drawn]


def write(run: str | os.PathLike[str]) -> pathlib.Path:
  """Builds report/index.html anew from what lies in the folder of a run.

  Raises:
    FileNotFoundError: if it is no such folder.
    ValueError: if a file in it is damaged; names it.
    ImportError: without jinja2.
  """
  run = pathlib.Path(run)
  folder.require(run)
  page = _render(run)
  path = run / folder.REPORT / PAGE
  path.parent.mkdir(exist_ok=True)
  whole_files.write(path, page)
  return path


def write_if_possible(run: str | os.PathLike[str]) -> pathlib.Path:
  """The same; warns where a package is missing, and returns the folder.

  A run that trained for days does not fail for want of a page.
  """
  try:
    return write(run)
  except ImportError as error:
    logger.warning("no %s: %s", PAGE, error)
    return pathlib.Path(run, folder.REPORT)


def _render(run: pathlib.Path) -> str:
  environment = pages.environment()
  files = {
    "config": folder.read_config(run) or {},
    "env": folder.read_environment(run) or {},
    "card": _card(run),
    "summary": metrics_file.summary(run),
    "time": _time(run),
  }
  sections = list(_sections(results.read_all(run)))
  training = [
    _drawn(drawn, title, captions.TRAINING[title], f"training{k}")
    for k, (title, drawn) in enumerate(
      training_plots.curves(history.read(run)).items()
    )
  ]
  return environment.get_template("page.html.jinja").render(
    title=_text(files["config"].get("name") or run.resolve().name),
    lead=_lead(files["card"]),
    folder=_text(str(run)),
    sections=sections,
    overview=_overview(sections),
    remarks=[_text(text) for text in metrics_file.remarks(files["summary"])],
    training=training,
    facts=_facts(files),
    style=pages.style(),
    version=facejax.__version__,
  )


def _sections(found: Iterable[results.Result]) -> Iterable[Section]:
  for k, result in enumerate(found):
    curves = dict(result.curves)
    if "roc" in curves:
      # The same points, seen twice.
      curves = {"roc": curves["roc"], "det": curves["roc"]} | curves
    figures = [
      _drawn(
        _DRAW[kind](curve),
        captions.TITLES[kind],
        captions.caption(kind, curve),
        f"r{k}-{kind}",
      )
      for kind, curve in curves.items()
      if kind in _DRAW
    ]
    yield Section(result.name, f"r{k}", result, _headlines(result), figures)


def _overview(sections: Iterable[Section]) -> Overview | None:
  """The sets of pairs side by side; None if there are not several."""
  found = [
    (section, {one.key: one for one in section.result.quantities})
    for section in sections
    if section.result.protocol == "verification"
  ]
  if len(found) < 2:
    return None
  labels = {
    key: figures[key].label
    for key in _SIDE_BY_SIDE
    for _, figures in found
    if key in figures
  }
  rows = [
    (
      section.anchor,
      section.name,
      [figures[key].text() if key in figures else "-" for key in labels],
    )
    for section, figures in found
  ]
  return Overview([*labels.values()], rows)


def _headlines(result: results.Result) -> list[results.Quantity]:
  wanted = _HEADLINES.get(result.protocol, ())
  more = [
    quantity
    for start in wanted
    for quantity in result.quantities[1:]
    if quantity.key.startswith(start)
  ]
  if result.protocol == "verification":
    more = more[:1]
  return [*result.quantities[:1], *more]


def _drawn(drawn: figure.Figure, title: str, caption: str, key: str) -> Drawn:
  return Drawn(title, caption, pages.markup(svg.inline(drawn, key=key)))


def _facts(
  files: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str]], bool]]:
  """Tables of what was run: name, rows, and whether it is unfolded."""
  card, env = files["card"], dict(files["env"])
  packages = env.pop("packages", {})
  summary = dict(files["summary"])
  summary.pop("config", None)
  tables = [
    ("Net and training data", _rows({k: card.get(k) for k in _CARD}), True),
    ("This run", _rows(env | summary), True),
    ("Wall time, over all starts", _rows(files["time"]), True),
    ("Versions", _rows(dict(card.get("versions", {})) | packages), False),
    ("Configuration", _rows(files["config"]), False),
  ]
  return [table for table in tables if table[1]]


def _time(run: pathlib.Path) -> dict[str, str]:
  """Where the wall time of a run went; {} where nothing was counted."""
  spent = goodput.read(run)
  return {
    title: f"{progress.duration(seconds)} ({share:.1%})"
    for title, seconds, share in (spent.rows() if spent.seconds else ())
  }


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
  rows = []
  for name, value in values.items():
    if isinstance(value, Mapping):
      rows += _rows(value, f"{prefix}{name}.")
    elif value not in (None, "", [], ()):
      rows.append((_text(prefix + name), _value(value)))
  return rows


def _value(value: Any) -> str:
  if isinstance(value, list | tuple):
    return _text(" ".join(map(str, value)))
  if type(value) is int:
    return f"{value:,}" if value >= 10_000 else str(value)
  return _text(str(value))


def _lead(card: Mapping[str, Any]) -> str:
  """What the net is, in one sentence."""
  if not card.get("net"):
    return ""
  text = (
    f"{card['net']}, embeddings of {card.get('embedding_dim', '?')} numbers"
  )
  if card.get("trained_on"):
    text += f", trained on {card['trained_on']}"
  if card.get("images") and card.get("identities"):
    text += f" ({card['images']:,} images of {card['identities']:,} people)"
  return _text(f"{text}.")


def _card(run: pathlib.Path) -> dict[str, Any]:
  """The card of the net; of older runs it follows from config.json."""
  try:
    card = card_lib.read(run)
  except FileNotFoundError:
    return {}
  kept = card.threshold
  told = kept and f"{kept.cosine:.4f}: {kept}; {kept.protocol}"
  return card_lib.net_of(card) | {"threshold": told}


def _text(text: str) -> str:
  return text_lines.printable(text)
