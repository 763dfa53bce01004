"""How `same_computation.py` holds runs against each other, and its table."""

import dataclasses
import json
import math
import os
import pathlib
import platform
import sys
from collections.abc import Sequence

import same_computation_runs as runs

from facejax.runtime import json_files, whole_files

BOUND = 1e-9
REFERENCE = "1 x 8"


@dataclasses.dataclass(frozen=True)
class Row:
  """A run, and how it compares with the reference.

  Attributes:
    recipe: what was trained.
    form: by how many processes and devices.
    steps: that were compared, the first and the last.
    difference: the largest relative one of a loss.
    images: that were compared.
    differing: images that are others, or missing.
    seconds: from start to end.
    complete: it has all steps that it should have.
  """

  recipe: str
  form: str
  steps: tuple[int, int]
  difference: float
  images: int
  differing: int
  seconds: float
  complete: bool

  @property
  def same(self) -> bool:
    """Whether it is the reference's computation."""
    if not self.complete or not self.images:
      return False
    return self.difference <= BOUND and not self.differing


def compare(
  recipe: str,
  form: str,
  found: runs.Found,
  expected: runs.Found,
  *,
  first: int = 1,
  last: int,
) -> Row:
  """Holds a run against the reference, from one step to another.

  Args:
    recipe: of both.
    form: of the run.
    found: what it left.
    expected: what the reference left.
    first: the first step that is compared.
    last: the last one that it must have.
  """
  steps = range(first, last + 1)
  both = [s for s in steps if s in found.losses and s in expected.losses]
  gaps = [_gap(found.losses[s], expected.losses[s]) for s in both]
  images = differing = 0
  for step in steps:
    here, there = found.batches.get(step, {}), expected.batches.get(step, {})
    images += len(there)
    places = here.keys() | there.keys()
    differing += sum(here.get(k) != there.get(k) for k in places)
  return Row(
    recipe=recipe,
    form=form,
    steps=(first, last),
    difference=max(gaps, default=math.inf),
    images=images,
    differing=differing,
    seconds=found.seconds,
    # One that began anew would have taken steps before the first.
    complete=both == [*steps] and min(found.batches, default=0) == first,
  )


def _gap(loss: float | None, expected: float | None) -> float:
  """The relative difference; infinite where a loss was not finite."""
  if loss is None or expected is None:
    return math.inf
  if loss == expected:
    return 0.0
  return abs(loss - expected) / abs(expected) if expected else math.inf


def table(found: Sequence[Row]) -> str:
  """Markdown: a row a run."""
  lines = [
    "| recipe | processes x devices | steps compared | largest relative"
    " difference of a loss | images that differ | seconds |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  for row in found:
    first, last = row.steps
    what = (
      f"{first} to {last}" if row.complete else f"{first} to {last}: not all"
    )
    reference = row.form == REFERENCE
    lines.append(
      f"| `{pathlib.Path(row.recipe).name}` | {row.form} | {what} |"
      f" {'the reference' if reference else f'{row.difference:.1e}'} |"
      f" {row.differing:,} of {row.images:,} | {row.seconds:.0f} |"
    )
  return "\n".join(lines) + "\n"


def write(path: pathlib.Path, found: Sequence[Row]) -> None:
  """Writes the runs as Markdown, or to NAME.json as JSON."""
  if path.suffix != ".json":
    whole_files.write(path, table(found))
    return
  about = {
    "machine": f"{os.cpu_count()} cores, {platform.platform()}",
    "command": " ".join(sys.argv),
    "bound": BOUND,
    "runs": [_described(row) for row in found],
  }
  json_files.write(path, json.loads(json.dumps(about)))


def _described(row: Row) -> dict[str, object]:
  gap = row.difference if math.isfinite(row.difference) else None
  return dataclasses.asdict(row) | {"difference": gap, "same": row.same}
