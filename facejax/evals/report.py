"""The files that a run leaves behind for people to read."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from facejax.evals import plots, verification

_DPI = 150


def write_report(
  folder: str | os.PathLike[str],
  *,
  results: Sequence[verification.Verification],
  history: Sequence[Mapping[str, Any]],
  summary: Mapping[str, Any],
) -> list[pathlib.Path]:
  """Writes metrics.json, training_curves.png, roc.png and scores.png.

  metrics.json holds `{"summary": ..., "results": {NAME: {"pairs": n,
  "convention": ..., "metrics": {...}}}}`, with null for what is not finite.
  Figures without data are left out. Each file appears whole or not at all.

  Args:
    folder: where the files go; made if need be.
    results: the evaluations of the final parameters, each with its own name.
    history: the records of metrics.jsonl, see `plots.training_curves`.
    summary: what else to store: numbers, text, lists and mappings of them.

  Returns:
    The files written.

  Raises:
    ValueError: if two results have one name.
    TypeError: if `summary` holds what JSON cannot.
  """
  report = {"summary": summary, "results": _entries(results)}
  text = json.dumps(_plain(report), indent=2, allow_nan=False) + "\n"
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  figures = {}
  if history:
    figures["training_curves.png"] = plots.training_curves(history)
  if results:
    figures["roc.png"] = plots.roc_curves(results)
    figures["scores.png"] = plots.score_histograms(results)
  written = [_write(folder / "metrics.json", lambda f: f.write(text.encode()))]
  for name, figure in figures.items():
    save = figure.savefig
    written.append(
      _write(
        folder / name, lambda f, save=save: save(f, format="png", dpi=_DPI)
      )
    )
  return written


def _entries(
  results: Sequence[verification.Verification],
) -> dict[str, dict[str, Any]]:
  entries = {
    result.name: {
      "pairs": len(result.same),
      "convention": result.convention,
      "metrics": result.metrics,
    }
    for result in results
  }
  if len(entries) < len(results):
    names = [result.name for result in results]
    raise ValueError(f"results are named {names}; give each a name of its own")
  return entries


def _write(path: pathlib.Path, fill: Callable[[Any], Any]) -> pathlib.Path:
  """Fills a file beside `path`, then moves it there in one step."""
  partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
  try:
    with partial.open("wb") as file:
      fill(file)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
  return path


def _plain(value: Any) -> Any:
  """Turns NumPy and JAX numbers, paths and tuples into what JSON knows."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value
