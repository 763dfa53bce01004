"""Where the classes of a run are among those of another: by name or by order."""

from collections.abc import Sequence

import numpy as np

from facejax.runs import card as card_lib
from facejax.runs import classes, folder


def find(
  field: str,
  run: str,
  card: card_lib.Card,
  names: Sequence[str],
  *,
  rows: int,
) -> tuple[np.ndarray, list[str] | None]:
  """The number there of each class here, int32, -1 for none.

  Args:
    field: of the configuration that names the other run or wants its classes.
    run: the other run.
    card: its card.
    names: of the classes here.
    rows: of the prototypes there.

  Returns:
    The numbers, and the names there; None where it names none, and the order
    is taken for the same.

  Raises:
    ValueError: if no class is shared, or that cannot be told.
  """
  out = f"leave --{field.replace('_', '-')} out"
  old = classes.read(run)
  if old is None:
    return _by_number(field, run, card.identities, len(names), out), None
  if len(old) > rows:
    raise ValueError(
      f"{field}: {run!r} names {len(old):,} classes and has"
      f" {rows:,} prototypes: {folder.CLASSES} is of another run"
    )
  places = classes.matched(old, names)
  if (places < 0).all():
    raise ValueError(
      f"{field}: none of the {len(names):,} classes here, such as"
      f" {names[0]!r}, is among the {len(old):,} of {run!r}, such as"
      f" {old[0]!r}: {out}"
    )
  return places, old


def _by_number(
  field: str, run: str, before: int | None, now: int, out: str
) -> np.ndarray:
  """Rows in their order, where the old classes have no names."""
  if before != now:
    count = "an unknown number of" if before is None else f"{before:,}"
    raise ValueError(
      f"{field}: {run!r} has no {folder.CLASSES}, so that its"
      f" {count} classes could be matched by their order alone, and there are"
      f" {now:,} here: write their names there (facejax.convert --class-names),"
      f" or {out}"
    )
  return np.arange(now, dtype=np.int32)
