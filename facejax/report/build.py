"""From the files in the folder of a run to report/index.html."""

import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import figure

import facejax
from facejax.data import images
from facejax.evaluation import verification
from facejax.report import captions, plots, svg, training_plots
from facejax.runs import card as card_lib
from facejax.runs import results
from facejax.runtime import command_line, whole_files
from facejax.training import telemetry

logger = logging.getLogger(__name__)

PAGE = "index.html"
_HERE = pathlib.Path(__file__).parent
_LONGEST_NAME = 44
# What a tile shows of each kind of result, beside its first figure.
_HEADLINES = {
  "verification": ("tar_at_far_1e-3", "tar_at_far_1e-2"),
  "identification": ("tpir_at_fpir", "pairwise_f_cross_fitted"),
  "clustering": ("bcubed_f_cross_fitted",),
  "templates": ("rank_1",),
}
_CARD = ("net", "embedding_dim", "image_size", "crop", "norm", "dtype")
_CARD += ("averaged", "trained_on", "images", "identities", "loss", "source")


class Drawn(NamedTuple):
  """A figure on the page."""

  title: str
  caption: str
  svg: Any


class Section(NamedTuple):
  """A result on the page."""

  name: str
  anchor: str
  result: results.Result
  headlines: Sequence[results.Quantity]
  figures: Sequence[Drawn]


def write_training(
  run: str | os.PathLike[str],
  found: Sequence[tuple[verification.Verification, results.Result]],
  *,
  summary: Mapping[str, Any],
) -> pathlib.Path:
  """Writes what a training run leaves: metrics.json, results and the page.

  metrics.json holds `{"summary": …, "results": {NAME: {"pairs": n,
  "convention": …, "metrics": {…}}}}`, with null for what is not finite. Each
  file appears whole or not at all.

  Args:
    run: the folder of the run.
    found: the evaluations of the final parameters, each with its own name.
    summary: what else to store: numbers, text, lists and mappings of them.

  Returns:
    The page; its folder where it cannot be built for want of jinja2.

  Raises:
    ValueError: if two results have one name.
    TypeError: if `summary` holds what JSON cannot.
  """
  entries = {
    one.name: {
      "pairs": len(one.same),
      "convention": one.convention,
      "metrics": one.metrics,
    }
    for one, _ in found
  }
  if len({results.file_name(name) for name in entries}) < len(found):
    names = [one.name for one, _ in found]
    raise ValueError(f"results are named {names}; give each a name of its own")
  content = results.plain({"summary": summary, "results": entries})
  text = json.dumps(content, indent=2, allow_nan=False) + "\n"
  folder = pathlib.Path(run, results.FOLDER)
  folder.mkdir(parents=True, exist_ok=True)
  whole_files.write(folder / f"{results.TAKEN}.json", text.encode())
  for _, result in found:
    results.write(run, result)
  try:
    return write(run)
  except ImportError as error:
    # A run that trained for days does not fail for want of a page.
    logger.warning("no %s: %s", PAGE, error)
    return folder


def write(run: str | os.PathLike[str]) -> pathlib.Path:
  """Builds report/index.html anew from what lies in the folder of a run.

  Raises:
    FileNotFoundError: if it is no such folder.
    ValueError: if a file in it is damaged; names it.
    ImportError: without jinja2.
  """
  run = pathlib.Path(run)
  marks = ("config.json", "model.json", "metrics.jsonl", results.FOLDER)
  if not any((run / mark).exists() for mark in marks):
    raise FileNotFoundError(
      f"{os.fspath(run)!r} is not the folder of a run: it has none of"
      f" {', '.join(marks)}"
    )
  page = _render(run)
  path = run / results.FOLDER / PAGE
  path.parent.mkdir(exist_ok=True)
  whole_files.write(path, page.encode())
  return path


def _render(run: pathlib.Path) -> str:
  try:
    import jinja2
  except ImportError:
    raise command_line.extra("jinja2 for the report", "eval") from None
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
  )
  environment.filters["short"] = _short
  files = {name: _read(run / f"{name}.json") for name in ("config", "env")}
  files["card"] = _card(run)
  files["metrics"] = _read(run / results.FOLDER / f"{results.TAKEN}.json")
  sections = list(_sections(results.read_all(run)))
  training = [
    _drawn(drawn, title, captions.TRAINING[title], f"training{k}")
    for k, (title, drawn) in enumerate(
      training_plots.curves(telemetry.read_history(run)).items()
    )
  ]
  return environment.get_template("page.html.jinja").render(
    title=_text(files["config"].get("name") or run.resolve().name),
    lead=_lead(files["card"]),
    folder=_text(str(run)),
    sections=sections,
    training=training,
    facts=_facts(files),
    style=_markup((_HERE / "style.css").read_text()),
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
        plots.DRAW[kind](curve),
        captions.TITLES[kind],
        captions.caption(kind, curve),
        f"r{k}-{kind}",
      )
      for kind, curve in curves.items()
      if kind in plots.DRAW
    ]
    yield Section(result.name, f"r{k}", result, _headlines(result), figures)


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
  return Drawn(title, caption, _markup(svg.inline(drawn, key=key)))


def _facts(
  files: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str]], bool]]:
  """Tables of what was run: name, rows, and whether it is unfolded."""
  card, env = files["card"], dict(files["env"])
  packages = env.pop("packages", {})
  summary = dict(files["metrics"].get("summary", {}))
  summary.pop("config", None)
  tables = [
    ("Net and training data", _rows({k: card.get(k) for k in _CARD}), True),
    ("This run", _rows(env | summary), True),
    ("Versions", _rows(dict(card.get("versions", {})) | packages), False),
    ("Configuration", _rows(files["config"]), False),
  ]
  return [table for table in tables if table[1]]


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
    return dataclasses.asdict(card_lib.read(run))
  except FileNotFoundError:
    return {}


def _read(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object; empty where there is no such file."""
  if not path.exists():
    return {}
  try:
    content = json.loads(path.read_text())
    if not isinstance(content, dict):
      raise ValueError("no JSON object")
  except ValueError as error:
    raise ValueError(f"{path} is damaged ({error})") from None
  return content


def _short(name: str) -> str:
  """The end of a long name, which tells images apart."""
  return name if len(name) <= _LONGEST_NAME else f"…{name[-_LONGEST_NAME:]}"


def _text(text: str) -> str:
  return images.printable(text)


def _markup(text: str) -> Any:
  """Marks text of our own as HTML; all other text is escaped."""
  import markupsafe

  return markupsafe.Markup(text)
