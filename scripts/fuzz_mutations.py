"""Damage to files, drawn at random; see `fuzz_readers.py`."""

import dataclasses
import pathlib
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np

Files = dict[str, bytes]
_EXTREME = [
  *(0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 4096, 4097, 32767, 65535, 65536),
  *(2**24, 2**24 + 1, 2**28, 2**29 - 1, 2**29, 2**31 - 1, 2**31, 2**32 - 1),
  *(2**33, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
]
_WORDS = [
  *(b"\n", b"\t", b" ", b",", b"\0", b"-", b"-1", b"1e9", b"nan", b"inf"),
  *(b"../", b"/etc/passwd", b"\xff\xfe", b"\r", b"0" * 400, b"9" * 5000),
  *("\u0661".encode(), "\u2028".encode(), b"{", b"[" * 3000, b'"', b"#"),
]
_HEADER = 64


@dataclasses.dataclass(frozen=True)
class Target:
  """A reader.

  Attributes:
    name: What the command line calls it.
    samples: Makes valid inputs, each a few files by name.
    read: Reads a folder with those files.
    mutated: The files that are damaged; none stands for all.
    finish: Makes the damaged files look whole: checksums, archives.
    kept: Bytes that a library behind the reader keeps of each input, in caches
      of its own.
  """

  name: str
  samples: Callable[[], Sequence[Files]]
  read: Callable[[pathlib.Path], None]
  mutated: Sequence[str] = ()
  finish: Callable[[Files, np.random.Generator], Files] | None = None
  kept: int = 0


def damaged(
  target: Target, samples: Sequence[Files], seed: int, index: int
) -> Files:
  """Returns input `index` of a reader: one of its samples, damaged."""
  rng = np.random.default_rng([seed, zlib.crc32(target.name.encode()), index])
  files = dict(samples[rng.integers(len(samples))])
  names = [name for name in files if name in (target.mutated or files)]
  for _ in range(int(rng.geometric(0.5))):
    name = names[rng.integers(len(names))]
    other = samples[rng.integers(len(samples))].get(name, b"")
    change = CHANGES[rng.integers(len(CHANGES))]
    files[name] = change(files[name], other, rng)
  return target.finish(files, rng) if target.finish else files


def save(files: Files, folder: pathlib.Path) -> None:
  """Makes a folder that holds these files alone."""
  shutil.rmtree(folder, ignore_errors=True)
  for name, data in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def keep(
  folder: pathlib.Path, trouble: str, files: pathlib.Path | None
) -> None:
  """Saves what happened, and a copy of the files that did it."""
  folder.parent.mkdir(parents=True, exist_ok=True)
  report = folder.with_suffix(".txt")
  report.write_text(trouble, encoding="utf-8", errors="backslashreplace")
  if files is not None:
    shutil.copytree(files, folder, dirs_exist_ok=True)


def _place(data: bytes, rng: np.random.Generator) -> int:
  """Draws a place, every other time in the header."""
  end = len(data) + 1
  return int(rng.integers(min(end, _HEADER) if rng.random() < 0.5 else end))


def _span(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
  begin = _place(data, rng)
  return begin, begin + int(2 ** rng.uniform(0, 1 + np.log2(len(data) + 1)))


def _flip(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  changed = bytearray(data)
  for _ in range(int(rng.integers(1, 9)) if data else 0):
    place = min(_place(data, rng), len(data) - 1)
    changed[place] ^= 1 << int(rng.integers(8))
  return bytes(changed)


def _truncate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  return data[: _place(data, rng)]


def _remove(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  begin, end = _span(data, rng)
  return data[:begin] + data[end:]


def _insert(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  place = _place(data, rng)
  new = rng.bytes(int(rng.integers(1, 33)))
  if rng.random() < 0.5:
    new = _WORDS[rng.integers(len(_WORDS))]
  return data[:place] + new + data[place:]


def _double(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  begin, end = _span(data, rng)
  return data[:end] + data[begin:]


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  begin, end = _span(other, rng)
  place = _place(data, rng)
  return data[:place] + other[begin:end] + data[place + end - begin :]


def _number(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """Replaces a binary number: a length, an offset, a count."""
  form = ["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"][rng.integers(7)]
  size = struct.calcsize(form)
  value = _EXTREME[rng.integers(len(_EXTREME))] - int(rng.integers(2))
  if rng.random() < 0.3:
    value = len(data) + int(rng.integers(-8, 9))
  place = _place(data, rng) // size * size
  new = struct.pack(form, value % 2 ** (8 * size))
  return data[:place] + new + data[place + size :]


def _decimal(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """Replaces a number in text."""
  found = list(re.finditer(rb"[0-9]+", data[:10_000]))
  if not found:
    return _number(data, other, rng)
  match = found[rng.integers(len(found))]
  value = _EXTREME[rng.integers(len(_EXTREME))] - int(rng.integers(2))
  new = str(value).encode()
  return data[: match.start()] + new + data[match.end() :]


def _lines(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
  """Puts the lines of a text in another order."""
  lines = data.split(b"\n")
  return b"\n".join(lines[k] for k in rng.permutation(len(lines)))


CHANGES = [
  *(_flip, _flip, _truncate, _remove, _insert, _double, _splice),
  *(_number, _number, _decimal, _lines),
]
