"""The list file of MXNet, `train.lst`: which file each record came from."""

import logging
import os
import weakref
from collections.abc import Sequence

import numpy as np

from facejax.runtime import file_kinds, text_lines

logger = logging.getLogger(__name__)

_CHUNK = 2**24
_MAX_LINE = 8192
_MAX_DIGITS = 18


class ListFile:
  """Lines by the key of their record, in either of two layouts.

  Of im2rec: `key<tab>label<tab>identity/file`. Of InsightFace's face2rec2:
  `flag<tab>identity/file<tab>label`, without keys, in the order of the records.
  Sixteen bytes a line are kept; the text stays on the disk.
  """

  def __init__(self, path: str, *, first: int = 0):
    """Notes where each line begins, about 100 ns a line.

    Args:
      path: The file.
      first: The key of the first image, for a list without keys.

    Raises:
      ValueError: A line does not begin with a number, or a key occurs twice.
    """
    self.path = path
    file_kinds.refuse(path, "a list of a RecordIO file")
    self._descriptor = os.open(path, os.O_RDONLY)
    weakref.finalize(self, os.close, self._descriptor)
    keys, begins = self._lines()
    self._keyed = not self._is_of_face2rec2()
    if not self._keyed:
      keys = first + np.arange(len(begins))
    order = np.argsort(keys, kind="stable")
    self._keys, self._begins = keys[order], begins[order]
    twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
    if len(twice):
      raise ValueError(f"{path!r} has key {self._keys[twice[0]]} twice")

  def _lines(self) -> tuple[np.ndarray, np.ndarray]:
    keys = [np.zeros(0, np.int64)]
    begins = [np.zeros(0, np.int64)]
    at = 0
    while text := os.pread(self._descriptor, _CHUNK, at):
      end = text.rfind(b"\n") + 1 if len(text) == _CHUNK else len(text)
      if not end:
        raise ValueError(
          f"{self.path!r} is no list: it has a line of megabytes"
        )
      begin, key = self._keys_in(text[:end], at)
      keys.append(key)
      begins.append(at + begin)
      at += end
    return np.concatenate(keys), np.concatenate(begins)

  def _is_of_face2rec2(self) -> bool:
    """Whether the first line has its label last, behind the path."""
    fields = (
      os.pread(self._descriptor, _MAX_LINE, 0).split(b"\n")[0].split(b"\t")
    )
    return (
      len(fields) >= 3 and not _is_number(fields[1]) and _is_number(fields[2])
    )

  def _keys_in(self, text: bytes, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the lines of a text begin, and their first numbers."""
    chars = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(chars == ord("\n"))
    begin = np.concatenate([[0], ends + 1])
    begin = begin[begin < len(text)]
    tabs = np.append(np.flatnonzero(chars == ord("\t")), len(text))
    digits = tabs[np.searchsorted(tabs, begin)] - begin
    key = np.zeros(len(begin), np.int64)
    good = (digits > 0) & (digits <= _MAX_DIGITS)
    for place in range(_MAX_DIGITS):
      inside = good & (place < digits)
      char = chars[np.minimum(begin + place, len(text) - 1)].astype(np.int64)
      good &= ~inside | ((char >= ord("0")) & (char <= ord("9")))
      key = np.where(inside, 10 * key + char - ord("0"), key)
    if not good.all():
      first = int(begin[np.flatnonzero(~good)[0]])
      line = text[first : first + 60].split(b"\n")[0]
      raise ValueError(
        f"{self.path!r}, at byte {at + first:,}: expected"
        f" 'KEY<tab>LABEL<tab>IDENTITY/FILE', got {line!r}"
      )
    return begin, key

  def has(self, keys: np.ndarray) -> np.ndarray:
    """Returns whether each of the keys occurs."""
    return np.isin(keys, self._keys, assume_unique=True)

  def entry(self, key: int) -> tuple[float, str, str]:
    """Returns the label, the identity and the file of a line.

    The identity is "" when the file lies in no folder.

    Raises:
      ValueError: The line is malformed, or its path is no name; names it.
    """
    place = int(np.searchsorted(self._keys, key))
    begin = int(self._begins[place])
    text = os.pread(self._descriptor, _MAX_LINE, begin).split(b"\n")[0]
    fields = os.fsdecode(text.rstrip(b"\r")).split("\t")
    shown = f"{self.path!r}, line of key {key}"
    wrong_key = self._keyed and fields[0] != str(key)
    if len(text) == _MAX_LINE or len(fields) < 3 or wrong_key:
      expected = "KEY<tab>LABEL" if self._keyed else "FLAG"
      raise ValueError(
        f"{shown}: expected '{expected}<tab>IDENTITY/FILE"
        f"{'' if self._keyed else '<tab>LABEL'}', got"
        f" {text_lines.printable(fields[0][:60])!r} and {len(fields) - 1} more"
      )
    label_at, path_at = (1, -1) if self._keyed else (2, 1)
    names = fields[path_at].replace("\\", "/").split("/")
    if any(name in ("", ".", "..") or "\0" in name for name in names[-2:]):
      raise ValueError(
        f"{shown}: {text_lines.printable(fields[path_at])!r} is no name"
      )
    try:
      label = float(fields[label_at])
    except ValueError:
      raise ValueError(
        f"{shown}: {fields[label_at][:60]!r} is no label"
      ) from None
    identity = text_lines.printable(names[-2]) if len(names) > 1 else ""
    return label, identity, text_lines.printable(names[-1])

  def identities(
    self, keys: Sequence[int], labels: Sequence[int]
  ) -> list[str] | None:
    """Returns the identity of each key; None where they tell none apart.

    Raises:
      ValueError: A line is malformed, or has another label; names it.
    """
    names = []
    for key, label in zip(keys, labels, strict=True):
      found, identity, _ = self.entry(key)
      if found != label:
        raise ValueError(
          f"{self.path!r}, line of key {key}: label {found}, the record has"
          f" {label}; the list belongs to other records"
        )
      names.append(identity)
    return names if all(names) and len(set(names)) == len(names) else None


def _is_number(field: bytes) -> bool:
  try:
    float(field)
  except ValueError:
    return False
  return True


def beside(path: str, keys: np.ndarray, *, first: int) -> ListFile | None:
  """Opens the `.lst` file beside a `.rec` file.

  Args:
    path: The `.rec` file.
    keys: int64 [n], the keys that the list must have.
    first: The key of the first image of the file.

  Returns:
    The list; None when there is none, or, with a warning, when it has another
    layout, or belongs to other records.
  """
  path = os.path.splitext(path)[0] + ".lst"
  if not os.path.isfile(path):
    return None
  try:
    found = ListFile(path, first=first)
    missing = keys[~found.has(keys)]
    if len(missing):
      raise ValueError(f"{path!r} lacks key {missing[0]}")
  except ValueError as error:
    logger.warning("no names are taken from a list file: %s", error)
    return None
  return found
