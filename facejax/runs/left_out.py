"""left_out.json: the batches that a run goes without, so that it stays so.

The batch of a step is a function of seed and number. A run that went back to a
checkpoint because of a batch leaves that number out from then on, and so does
every later start in the folder.
"""

import dataclasses
import os
import pathlib
from collections.abc import Generator
from typing import Any, TypeVar

from facejax.runs import folder
from facejax.runtime import distributed, json_files

Batch = TypeVar("Batch")


@dataclasses.dataclass(frozen=True)
class LeftOutBatches:
  """Which batches, and where the run went back to each time.

  Attributes:
    numbers: of the batches, from 0, in the order in which they were left out.
    from_steps: the step of the checkpoint that was gone back to, likewise.
  """

  numbers: tuple[int, ...] = ()
  from_steps: tuple[int, ...] = ()

  def times(self, from_step: int) -> int:
    """How often the run went back to the checkpoint of a step."""
    return self.from_steps.count(from_step)

  def number(self, step: int) -> int:
    """The number of the batch of a step, both from 0.

    >>> [LeftOutBatches(numbers=(5, 2)).number(step) for step in range(5)]
    [0, 1, 3, 4, 6]
    """
    for one in sorted(self.numbers):
      step += one <= step
    return step

  def without(
    self, batches: Generator[Batch], *, first: int
  ) -> Generator[Batch]:
    """The batches but for these, which it closes.

    Args:
      batches: all from one on.
      first: the number of that one.
    """
    try:
      for number, batch in enumerate(batches, start=first):
        if number not in self.numbers:
          yield batch
    finally:
      batches.close()

  def and_also(self, number: int, *, from_step: int) -> "LeftOutBatches":
    """With one batch more."""
    return LeftOutBatches(
      (*self.numbers, number), (*self.from_steps, from_step)
    )


def read(run: str | os.PathLike[str]) -> LeftOutBatches:
  """What the folder of a run says; all processes must ask.

  Raises:
    ValueError: if the file is damaged.
  """
  path = pathlib.Path(run, folder.LEFT_OUT)
  found: dict[str, Any] | None = json_files.read_or_none(path)
  found = {"batches": []} if found is None else found
  try:
    pairs = [(int(one["batch"]), int(one["from"])) for one in found["batches"]]
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{path} is damaged ({error!r})") from None
  # As process 0 sees it, who writes it.
  pairs = distributed.gathered(pairs)[0]
  return LeftOutBatches(
    tuple(n for n, _ in pairs), tuple(step for _, step in pairs)
  )


def write(run: str | os.PathLike[str], left_out: LeftOutBatches) -> None:
  """Keeps it in the folder of a run; all processes must call.

  Raises:
    OSError: if it cannot be written.
  """
  pairs = zip(left_out.numbers, left_out.from_steps, strict=True)
  content = {"batches": [{"batch": n, "from": step} for n, step in pairs]}
  distributed.only_primary(
    lambda: json_files.write(pathlib.Path(run, folder.LEFT_OUT), content)
  )
