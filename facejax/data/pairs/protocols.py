"""The lists of pairs that the field verifies on, and the images they name.

`lfw`: `pairs.txt` of LFW and files like it, see `lfw`.

`cfp_ff` and `cfp_fp`: the folder `Protocol` of CFP. `Pair_list_F.txt` and
`Pair_list_P.txt` number the frontal and the profile images; in
`Split/FP/01/same.txt` and its like each line holds two of those numbers, the
first frontal, the second profile (`FP`) or frontal (`FF`). Each folder is a
fold. Images lie at `001/frontal/01.jpg` under the root.

`calfw` and `cplfw`: `pairs_CALFW.txt`, `pairs_CPLFW.txt`. Two lines for each
pair, `NAME_0001.jpg 1`; 0 stands for different people. The genuine pairs come
first; of the genuine and of the impostor pairs each tenth goes to one fold.

`agedb`: a line `FIRST.jpg SECOND.jpg 1` for each pair, 0 or -1 for different
people; the ten folds follow each other. It is the form in which repositories
hand on the 30-year pairs of AgeDB, and others, and that of MLFW's `pairs.txt`;
the `.mat` of AgeDB's authors is not read.

`rfw`: `African_pairs.txt` and its like, lines `NAME I J` or `NAME1 I NAME2 J` as
in LFW, but without a header; the ten folds follow each other. Images lie at
`NAME/NAME_0001.jpg` under the folder of the group. XQLFW's list has LFW's form.

`bfw`: the table of Balanced Faces in the Wild, .csv with columns `fold`, `p1`,
`p2` and `label` (1 for the same person) among others, which are not read.

References:
  Sengupta, Chen, Castillo, Patel, Chellappa, Jacobs. Frontal to Profile Face
  Verification in the Wild. 2016. (CFP; the layout is that of its Readme.txt.)
  Moschoglou, Papaioannou, Sagonas, Deng, Kotsia, Zafeiriou. AgeDB: the First
  Manually Collected, In-the-Wild Age Database. 2017.
  Zheng, Deng, Hu. Cross-Age LFW: A Database for Studying Cross-Age Face
  Recognition in Unconstrained Environments. 2017.
  Zheng, Deng. Cross-Pose LFW: A Database for Studying Cross-Pose Face
  Recognition in Unconstrained Environments. 2018.
  Robinson, Livitz, Henon, Qin, Fu, Timoner. Face Recognition: Too Bias, or Not
  Too Bias? 2020. (BFW)
  Wang, Deng, Hu, Tao, Huang. Racial Faces in the Wild: Reducing Racial Bias by
  Information Maximization Adaptation Network. 2019.
  The folds of CALFW and CPLFW: FaceX-Zoo, test_protocol/utils/pairs_parser.py.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np

from facejax.data.pairs import encoded_pairs, lfw
from facejax.runtime import text_lines

Protocol = Literal[
  "lfw", "cfp_ff", "cfp_fp", "agedb", "calfw", "cplfw", "rfw", "bfw"
]
PROTOCOLS: tuple[str, ...] = get_args(Protocol)


@dataclasses.dataclass(frozen=True)
class ListedPair:
  """One pair of a list.

  Attributes:
    where: File and line, for messages.
    first: The path of the first image under the root; without its suffix where
      the list has none.
    second: That of the second image.
    same: Whether both show the same person.
    fold: The fold, counted from 0.
  """

  where: str
  first: str
  second: str
  same: bool
  fold: int


def read_list(
  path: str | os.PathLike[str], protocol: Protocol | None = None
) -> list[ListedPair]:
  """Reads a list of pairs.

  Args:
    path: A text file; for CFP the folder `Protocol`, or `Protocol/Split/FP`.
    protocol: Whose list it is; None guesses.

  Returns:
    The pairs in the order of the list.

  Raises:
    FileNotFoundError: There is no such list, or a part of it is missing.
    ValueError: A line is malformed, or leads out of the root; names it.
  """
  protocol = protocol or guess(path)
  if protocol not in PROTOCOLS:
    raise ValueError(
      f"protocol {protocol!r} is not known; choose from {', '.join(PROTOCOLS)}"
    )
  pairs = list(_READERS[protocol](os.fspath(path)))
  if not pairs:
    raise ValueError(f"{os.fspath(path)!r} lists no pair")
  return pairs


def guess(path: str | os.PathLike[str]) -> Protocol:
  """Returns whose list of pairs a path holds, by its content.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is like none of them, or like two.
  """
  if os.path.isdir(path):
    name = os.path.basename(os.path.normpath(path)).lower()
    if name in ("ff", "fp"):
      return "cfp_ff" if name == "ff" else "cfp_fp"
    raise ValueError(
      f"{os.fspath(path)!r} is a folder; for CFP name the protocol, cfp_ff or"
      " cfp_fp, or one of the folders Split/FF and Split/FP"
    )
  fields = next(text_lines.rows(path)).fields
  if len(fields) <= 2 and all(map(text_lines.is_count, fields)):
    return "lfw"
  numbers = fields[1:] if len(fields) == 3 else fields[1::2]
  if len(fields) in (3, 4) and all(map(text_lines.is_count, numbers)):
    return "rfw"
  if len(fields) == 3 and fields[2] in _LABELS:
    return "agedb"
  if {*"".join(fields).split(",")} >= _COLUMNS:
    return "bfw"
  if len(fields) == 2 and fields[1].isdecimal():
    return "cplfw"
  raise ValueError(
    f"{os.fspath(path)!r} begins with {' '.join(fields)[:80]!r}, which no list"
    f" of pairs does; name its protocol: {', '.join(PROTOCOLS)}"
  )


def _lfw(path: str) -> Iterator[ListedPair]:
  for pair in lfw.read_lfw_pairs(path):
    first, second = (
      f"{name}/{name}_{number:04d}"
      for name, number in (pair.first, pair.second)
    )
    where = f"{path!r} line {pair.line}"
    yield ListedPair(where, first, second, pair.same, pair.fold)


def _rfw(path: str) -> Iterator[ListedPair]:
  rows = list(text_lines.rows(path))
  folds = encoded_pairs.folds_in_order(len(rows))
  for row, fold in zip(rows, folds.tolist(), strict=True):
    same = len(row.fields) == 3
    if not same and len(row.fields) != 4:
      raise row.error(
        f"expected 'NAME I J' or 'NAME1 I NAME2 J', got {list(row.fields)}"
      )
    names = (row.fields[0], row.fields[0 if same else 2])
    numbers = row.fields[1:] if same else row.fields[1::2]
    first, second = (
      row.image(f"{name}/{name}_{row.count(number):04d}")
      for name, number in zip(names, numbers, strict=True)
    )
    if first == second or (not same and names[0] == names[1]):
      raise row.error(f"the pair {list(row.fields)} repeats itself")
    yield ListedPair(row.where, first, second, same, fold)


def _bfw(path: str) -> Iterator[ListedPair]:
  rows = text_lines.rows(path, separator=",")
  header = next(rows)
  if missing := _COLUMNS - {*header.fields}:
    raise header.error(f"there are no columns {', '.join(sorted(missing))}")
  columns = [header.fields.index(k) for k in ("fold", "p1", "p2", "label")]
  for row in rows:
    if len(row.fields) != len(header.fields):
      raise row.error(
        f"expected {len(header.fields)} fields, got {len(row.fields)}"
      )
    fold, first, second, label = (row.fields[k] for k in columns)
    if label not in ("0", "1"):
      raise row.error(f"expected a label of 0 or 1, got {label[:80]!r}")
    paths = row.image(first), row.image(second)
    yield ListedPair(row.where, *paths, label == "1", row.count(fold) - 1)


def _agedb(path: str) -> Iterator[ListedPair]:
  rows = list(text_lines.rows(path, fields=3))
  folds = encoded_pairs.folds_in_order(len(rows))
  for row, fold in zip(rows, folds.tolist(), strict=True):
    first, second, label = row.fields
    if label not in _LABELS:
      raise row.error(f"expected a label of 1, 0 or -1, got {label!r}")
    paths = row.image(first), row.image(second)
    yield ListedPair(row.where, *paths, label == "1", fold)


def _alternating(path: str) -> Iterator[ListedPair]:
  """Two lines for each pair, each with one of its images and its label."""
  rows = list(text_lines.rows(path, fields=2))
  if len(rows) % 2:
    raise rows[-1].error("the other image of this pair is missing")
  couples = list(zip(rows[0::2], rows[1::2], strict=True))
  for first, second in couples:
    if first.fields[1] != second.fields[1] or not first.fields[1].isdecimal():
      raise second.error(
        "expected both images of a pair with the same label, 0 or 1, got"
        f" {first.fields[1]!r} and {second.fields[1]!r}"
      )
  # CALFW's genuine pairs may carry the number of their fold.
  same = np.asarray([int(first.fields[1]) > 0 for first, _ in couples], bool)
  fold = np.empty(len(same), np.int32)
  for kind in (True, False):
    fold[same == kind] = encoded_pairs.folds_in_order(int((same == kind).sum()))
  for k, (first, second) in enumerate(couples):
    yield ListedPair(
      first.where,
      first.image(first.fields[0]),
      second.image(second.fields[0]),
      bool(same[k]),
      int(fold[k]),
    )


def _cfp(path: str, kind: str) -> Iterator[ListedPair]:
  split = path
  if os.path.basename(os.path.normpath(path)).upper() != kind:
    split = os.path.join(path, "Split", kind)
  if not os.path.isdir(split):
    raise FileNotFoundError(f"there is no folder {split!r}, which CFP has")
  frontal = _cfp_images(split, "F")
  other = _cfp_images(split, "P") if kind == "FP" else frontal
  folds = sorted(entry.name for entry in os.scandir(split) if entry.is_dir())
  for fold, folder in enumerate(folds):
    for name, same in (("same.txt", True), ("diff.txt", False)):
      file = os.path.join(split, folder, name)
      for row in text_lines.rows(file, fields=2, separator=","):
        numbers = row.count(row.fields[0]), row.count(row.fields[1])
        if numbers[0] not in frontal or numbers[1] not in other:
          raise row.error(f"there are no images of numbers {numbers}")
        paths = frontal[numbers[0]], other[numbers[1]]
        yield ListedPair(row.where, *paths, same, fold)


def _cfp_images(split: str, letter: str) -> dict[int, str]:
  """Returns the path of each image that `Pair_list_*.txt` numbers."""
  name = f"Pair_list_{letter}.txt"
  places = [os.path.join(split, *up, name) for up in ([".."] * 2, [".."])]
  file = next(filter(os.path.isfile, places), places[0])
  paths = {}
  for row in text_lines.rows(file, fields=2):
    # "../Data/Images/001/frontal/01.jpg", seen from the folder Protocol.
    tail = "/".join(row.fields[1].split("/")[-3:])
    paths[row.count(row.fields[0])] = row.image(tail)
  return paths


_LABELS = ("1", "0", "-1")
_COLUMNS = {"fold", "p1", "p2", "label"}
_READERS: dict[str, Callable[[str], Iterator[ListedPair]]] = {
  "lfw": _lfw,
  "cfp_ff": lambda path: _cfp(path, "FF"),
  "cfp_fp": lambda path: _cfp(path, "FP"),
  "agedb": _agedb,
  "calfw": _alternating,
  "cplfw": _alternating,
  "rfw": _rfw,
  "bfw": _bfw,
}
