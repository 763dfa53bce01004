"""What an evaluation found, as one JSON file that a report can show.

`report/NAME.json` in the folder of a run holds a `Result`: every figure with
its convention and its interval, the points of the curves, and the hardest
images themselves. The report needs nothing else: neither the images nor the
net.
"""

import dataclasses
import datetime
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facejax.metrics import intervals
from facejax.runs import folder
from facejax.runtime import json_files, text_lines

# Belongs to training, see `metrics_file`.
TAKEN = "metrics"
_FORMAT = "facejax result 1"


@dataclasses.dataclass(frozen=True)
class Quantity:
  """One figure of merit.

  Attributes:
    key: a name for programs, such as "tar_at_far_1e-3".
    label: a name for people.
    value: the figure; rates lie in [0, 1].
    low: lower end of its 95 % interval, if there is one.
    high: upper end.
    unit: "%" for rates, "°", "#" for counts, or nothing.
    convention: how it came about, so that it can be compared.
    spread: its standard deviation over folds, if it is a mean over them.
  """

  key: str
  label: str
  value: float
  low: float | None = None
  high: float | None = None
  unit: str = "%"
  convention: str = ""
  spread: float | None = None

  def text(self) -> str:
    """The value as a table shows it; "-" if there is none.

    >>> Quantity("accuracy", "Accuracy", 0.99833).text()
    '99.83 %'
    """
    if not math.isfinite(self.value):
      return "-"
    text = _number(self.value, self.unit)
    if self.spread is not None:
      text += f" ± {_number(self.spread, self.unit)}"
    return text + {"%": " %", "°": "°"}.get(self.unit, "")

  def interval(self) -> str:
    """The interval, without its unit; "" where there is none.

    >>> Quantity("a", "A", 0.5, 0.25, 0.75).interval()
    '25.00 … 75.00'
    """
    if self.low is None or self.high is None:
      return ""
    return f"{_number(self.low, self.unit)} … {_number(self.high, self.unit)}"


@dataclasses.dataclass(frozen=True)
class Thumbnail:
  """An image small enough to stand in a report: its name and a data URI."""

  name: str
  image: str


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Two images, their cosine, and whether the net was wrong about them.

  Whether it was is None where nobody knows.
  """

  score: float
  wrong: bool | None
  first: Thumbnail
  second: Thumbnail


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """Comparisons to look at, the hardest first."""

  title: str
  caption: str
  comparisons: Sequence[Comparison]


@dataclasses.dataclass(frozen=True)
class Result:
  """One evaluation.

  Attributes:
    name: of the evaluation, and of its file.
    protocol: what was done, in a few words.
    about: on what: how many images, pairs, people.
    quantities: the figures, the one to quote first.
    warnings: what a reader must know before quoting them.
    notes: what else is worth knowing.
    curves: name to columns of numbers; `facejax.report.plots` draws them.
    exhibits: images to look at.
    step: training steps of the net.
    data: where the images lie, their fingerprint and the like.
    time: when it was done, ISO 8601.
  """

  name: str
  protocol: str
  about: str
  quantities: Sequence[Quantity]
  warnings: Sequence[str] = ()
  notes: Sequence[str] = ()
  curves: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )
  exhibits: Sequence[Exhibit] = ()
  step: int | None = None
  data: Mapping[str, str] = dataclasses.field(default_factory=dict)
  time: str = dataclasses.field(
    default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(
      timespec="seconds"
    )
  )

  def __getitem__(self, key: str) -> float:
    """The value of a quantity by its key."""
    for quantity in self.quantities:
      if quantity.key == key:
        return quantity.value
    raise KeyError(key)


def of_rate(
  key: str,
  label: str,
  rate: intervals.Rate,
  convention: str,
  *,
  interval: intervals.Interval | None = None,
) -> Quantity:
  """A share of trials, with Wilson's interval unless another is given."""
  counts = f" {rate.successes:,} of {rate.trials:,}."
  ends = rate.interval() if interval is None else interval
  return Quantity(key, label, rate.value, *ends, convention=convention + counts)


def file_name(name: str) -> str:
  """What the file of a result is called.

  >>> file_name("LFW View 2"), file_name("../x"), file_name("metrics")
  ('LFW_View_2.json', '_x.json', 'metrics_.json')
  """
  safe = re.sub(r"[^\w.,+-]+", "_", name).lstrip(".")[:100] or "result"
  return f"{safe}_.json" if safe == TAKEN else f"{safe}.json"


def stem(name: str) -> str:
  """What other files of a result are called after, without an ending.

  >>> stem("LFW View 2")
  'LFW_View_2'
  """
  return file_name(name).removesuffix(".json")


def write(run: str | os.PathLike[str], result: Result) -> pathlib.Path:
  """Writes report/NAME.json, whole or not at all; an older one is replaced.

  Returns:
    The file.
  """
  path = pathlib.Path(run, folder.REPORT, file_name(result.name))
  path.parent.mkdir(parents=True, exist_ok=True)
  content = {"format": _FORMAT, **dataclasses.asdict(result)}
  json_files.write(path, plain(content), indent=1)
  return path


def read_all(run: str | os.PathLike[str]) -> list[Result]:
  """Every result in the folder of a run, by name.

  Raises:
    ValueError: if a file is damaged; names it.
  """
  paths = sorted(pathlib.Path(run, folder.REPORT).glob("*.json"))
  return [_read(path) for path in paths if path.stem != TAKEN]


def plain(value: Any) -> Any:
  """Turns NumPy and JAX numbers, paths and tuples into what JSON knows.

  What is not finite becomes None, and bytes of names that are no text are
  written as such.
  """
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if isinstance(value, os.PathLike):
    return text_lines.printable(os.fspath(value))
  if isinstance(value, str):
    return text_lines.printable(value)
  if hasattr(value, "tolist"):
    return plain(value.tolist())
  if isinstance(value, float) and not np.isfinite(value):
    return None
  return value


def _read(path: pathlib.Path) -> Result:
  try:
    content = json_files.read(path)
    if content.pop("format") != _FORMAT:
      raise ValueError("another format")
    quantities = [
      Quantity(**quantity | {"value": _finite(quantity["value"])})
      for quantity in content.pop("quantities")
    ]
    exhibits = [_exhibit(exhibit) for exhibit in content.pop("exhibits")]
    return Result(quantities=quantities, exhibits=exhibits, **content)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(
      f"{path} is no result of this version of facejax ({error!r}): run"
      " the evaluation again"
    ) from None


def _exhibit(content: Mapping[str, Any]) -> Exhibit:
  comparisons = [
    Comparison(
      each["score"],
      each["wrong"],
      Thumbnail(**each["first"]),
      Thumbnail(**each["second"]),
    )
    for each in content["comparisons"]
  ]
  return Exhibit(content["title"], content["caption"], comparisons)


def _finite(value: float | None) -> float:
  return math.nan if value is None else value


def _number(value: float, unit: str) -> str:
  if not math.isfinite(value):
    return "-"
  if unit == "%":
    value *= 100
  digits = {"%": 2, "°": 1, "#": 0}.get(unit, 4)
  return f"{value:,.{digits}f}"
