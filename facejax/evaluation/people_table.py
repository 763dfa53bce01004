"""The groups of people, as a file of the user's tells them.

Nothing is inferred from faces. The file is a table (CSV) with a header, a row a
person: the name, as folders of images have it, then columns of groups.
"""

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_NAMES = ("name", "person", "identity")


class People(NamedTuple):
  """The rows of a file of groups.

  Attributes:
    path: of the file.
    rows: person -> column -> group, without those that are empty.
    columns: of groups, in order.
  """

  path: str
  rows: Mapping[str, Mapping[str, str]]
  columns: tuple[str, ...]


def read(path: str | os.PathLike[str]) -> People:
  """Reads a file of groups.

  Raises:
    ValueError: if it has no header with a name and a group, a line has another
      number of fields, or a person two rows; names file and line.
  """
  place = os.fspath(path)
  with open(path, newline="", encoding="utf-8-sig") as file:
    table = csv.reader(file)
    header = [column.strip() for column in next(table, [])]
    named = [k for k, c in enumerate(header) if c.lower() in _NAMES]
    if len(header) < 2 or not named or len(set(header)) < len(header):
      raise ValueError(
        f"{place}:1: the header is {','.join(header)!r}; expected name and one or"
        " more columns of groups, such as name,region,age"
      )
    rows: dict[str, dict[str, str]] = {}
    for fields in table:
      where = f"{place}:{table.line_num}"
      if not fields:
        continue
      if len(fields) != len(header):
        raise ValueError(
          f"{where}: {len(fields)} fields; the header has {len(header)}"
        )
      values = [value.strip() for value in fields]
      name = values[named[0]]
      if name in rows:
        raise ValueError(f"{where}: {name!r} has a row already; leave one")
      rows[name] = {
        column: value
        for k, (column, value) in enumerate(zip(header, values, strict=True))
        if k != named[0] and value
      }
  columns = tuple(c for k, c in enumerate(header) if k != named[0])
  return People(place, rows, columns)


class Asked(NamedTuple):
  """Groups that are to be told apart.

  Attributes:
    people: the rows of the file.
    groupings: the columns of each; several are crossed.
  """

  people: People
  groupings: Sequence[tuple[str, ...]]


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that name a file of groups."""
  parser.add_argument(
    "--groups",
    default="",
    metavar="PEOPLE.csv",
    help="pairs: name and groups of people; FMR and FNMR of each group",
  )
  parser.add_argument(
    "--group-by",
    nargs="+",
    metavar="COLUMN[,COLUMN]",
    help="columns of --groups; joined by a comma they are crossed (each by itself)",
  )


def of_flags(args: argparse.Namespace, *, takes: bool) -> Asked | None:
  """What the flags of `add_flags` ask for.

  Args:
    args: of the command.
    takes: whether its protocol tells groups apart.

  Raises:
    ValueError: as `asked`, and if the flags do not belong.
  """
  if not args.groups:
    if args.group_by:
      raise ValueError("--group-by needs --groups, a table of people")
    return None
  if not takes:
    raise ValueError(
      "--groups is for all pairs of a list: leave out --fold, and use --protocol"
      " pairs or one of the lists"
    )
  return asked(args.groups, args.group_by or ())


def asked(path: str | os.PathLike[str], by: Sequence[str]) -> Asked:
  """Reads a file of groups, and which of its columns are asked for.

  Args:
    path: of the file.
    by: such as ["region", "region,age"]; none for each column by itself.

  Raises:
    ValueError: as `read`, and if there is no such column.
  """
  people = read(path)
  found = [tuple(c.strip() for c in one.split(",")) for one in by]
  for column in (c for one in found for c in one):
    if column not in people.columns:
      raise ValueError(
        f"--group-by {column!r}: {people.path} has the columns"
        f" {', '.join(people.columns)}"
      )
  return Asked(people, found or [(column,) for column in people.columns])
