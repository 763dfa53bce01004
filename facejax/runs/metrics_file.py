"""report/metrics.json: what a training run verified at its end.

`{"summary": …, "results": {NAME: {"pairs": n, "convention": …, "metrics":
{…}}}}`, with null for what is not finite.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from facejax.runs import card as card_lib
from facejax.runs import folder, results, thresholds
from facejax.runtime import json_files

# In the summary: which step is best, and where a run ended before its length.
BEST, EARLY = "best_step", "ended_early"


def write(
  run: str | os.PathLike[str],
  entries: Mapping[str, Mapping[str, Any]],
  *,
  summary: Mapping[str, Any],
) -> pathlib.Path:
  """Writes the file, whole or not at all.

  Args:
    run: the folder of the run.
    entries: by the name of a set of pairs, see above; the one to quote first.
    summary: what else to store: numbers, text, lists and mappings of them.

  Raises:
    TypeError: if `summary` holds what JSON cannot.
  """
  path = _path(run)
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {"summary": summary, "results": entries}
  json_files.write(path, results.plain(content))
  return path


def summary(run: str | os.PathLike[str]) -> dict[str, Any]:
  """What was stored beside the results; {} where there is no such file.

  Raises:
    ValueError: if the file is damaged.
  """
  return dict((json_files.read_or_none(_path(run)) or {}).get("summary", {}))


def remarks(summary: Mapping[str, Any]) -> list[str]:
  """What the summary says of the run's course, as sentences.

  >>> remarks({"best_step": "30, of 7 verified: lfw/accuracy 0.9"})
  ['best step 30, of 7 verified: lfw/accuracy 0.9']
  """
  return [
    f"{name.replace('_', ' ')} {summary[name]}"
    for name in (BEST, EARLY)
    if name in summary
  ]


def metrics(run: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
  """Figures by the name of the set of pairs; {} where there is no such file.

  Raises:
    ValueError: if the file is damaged.
  """
  content = json_files.read_or_none(_path(run))
  if content is None:
    return {}
  try:
    stored = content["results"]
    return {name: dict(each["metrics"]) for name, each in stored.items()}
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    raise _damaged(run, error) from None


def scores(run: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
  """What a run and its evaluations scored, by the name of the set.

  Raises:
    ValueError: if a file of results is damaged.
  """
  evaluated = {
    result.name: {
      quantity.key: {"value": quantity.value, "convention": quantity.convention}
      for quantity in result.quantities
    }
    for result in results.read_all(run)
  }
  return metrics(run) | evaluated


def threshold(run: str | os.PathLike[str]) -> thresholds.Threshold | None:
  """The threshold of a run; None if it verified nothing.

  That in its card, or of runs of before, what was verified at their end: the one
  chosen on a set of its own comes before the mean of those of the folds.

  Raises:
    ValueError: if the file is damaged.
  """
  if pathlib.Path(run, folder.CARD).exists():
    kept = card_lib.read(run).threshold
    if kept is not None:
      return kept
  for name, found in metrics(run).items():
    names = "threshold", "accuracy"
    if found.get("given_threshold") is not None:
      names = "given_threshold", "accuracy_at_given_threshold"
    try:
      cosine, accuracy = (float(found[key]) for key in names)
    except (KeyError, TypeError, ValueError) as error:
      raise _damaged(run, error) from None
    rate, strangers = map(found.get, ("false_match_rate", "impostor_pairs"))
    return thresholds.Threshold(
      *(cosine, accuracy, name),
      None if rate is None else float(rate),
      int(strangers or 0),
    )
  return None


def _path(run: str | os.PathLike[str]) -> pathlib.Path:
  return pathlib.Path(run, folder.REPORT, f"{results.TAKEN}.json")


def _damaged(run: str | os.PathLike[str], error: Exception) -> ValueError:
  return ValueError(f"{_path(run)} is damaged ({error!r})")
