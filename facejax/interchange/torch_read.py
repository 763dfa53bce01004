"""Opens .pt and .pth files without PyTorch, and without running anything.

Since PyTorch 1.6 they are zip archives of a pickle and of raw numbers, before
that pickles one after the other with the numbers at the end.
"""

import contextlib
import functools
import os
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from facejax.interchange import torch_pickle
from facejax.runtime import file_kinds, pickle_values

_ZIP = b"PK\x03\x04"
# What pickles of the older form begin with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# The largest net of the field has some thousand tensors, at 200 bytes each.
_MAX_PICKLE = 2**26
_MAX_ENTRIES = 2**20
_ENCRYPTED = 1


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
  """Opens a file; tensors in it can be read while it is open.

  Args:
    path: the file.

  Yields:
    What was saved: dictionaries, lists, numbers, text, and `tensors.Tensor`s.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is damaged, or holds more than data.
  """
  name = os.fspath(path)
  file_kinds.refuse(path, "a file of torch.save", ("torch", "zip", "pickle"))
  try:
    with open(path, "rb") as file:
      if file.read(len(_ZIP)) == _ZIP:
        with zipfile.ZipFile(path) as archive:
          yield _read_zip(archive)
      else:
        file.seek(0)
        yield _read_older(file.read())
  except FileNotFoundError:
    raise FileNotFoundError(f"there is no file {name!r}") from None
  except (pickle_values.UnpickleError, _WrongFile) as error:
    raise ValueError(f"{name!r} {error}") from None
  except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
    raise ValueError(f"{name!r} is damaged ({error})") from None


class _WrongFile(ValueError):
  """It is no file of `torch.save`, or a damaged one."""


def _read_zip(archive: zipfile.ZipFile) -> Any:
  entries = archive.infolist()
  names = [entry.filename for entry in entries]
  if len(names) > _MAX_ENTRIES or len(set(names)) != len(names):
    raise _WrongFile("has two entries of one name, or too many")
  # Compressed entries could be bombs; PyTorch writes none.
  if any(
    entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED
    for entry in entries
  ):
    raise _WrongFile("is compressed or encrypted, as torch.save writes no file")
  pickles = [name for name in names if name.endswith("/data.pkl")]
  if len(pickles) != 1:
    raise _WrongFile("holds no state dict: it is an archive of something else")
  folder = pickles[0].removesuffix("data.pkl")
  order = f"{folder}byteorder"
  if order in names and _entry(archive, order) != b"little":
    raise _WrongFile("was written on a big-endian machine")
  read = functools.partial(_storage, archive, f"{folder}data/")
  return torch_pickle.TensorMachine(_entry(archive, pickles[0]), read).read()


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
  if archive.getinfo(name).file_size > _MAX_PICKLE:
    raise _WrongFile(f"has an entry {name!r} that is far too large")
  return archive.read(name)


def _storage(archive: zipfile.ZipFile, folder: str, key: str) -> bytes:
  try:
    return archive.read(folder + key)
  except KeyError:
    raise _WrongFile(f"lacks the numbers {key!r}") from None


def _read_older(data: bytes) -> Any:
  if data[:1] != pickle.PROTO:
    raise _WrongFile(f"is no file of torch.save: it begins with {data[:8]!r}")
  places: dict[str, int] = {}
  sizes: dict[str, int] = {}

  def read(key: str) -> bytes:
    return data[places[key] : places[key] + sizes[key]]

  place, parts = 0, []
  storages = {}
  for _ in range(5):  # magic, protocol, system, what was saved, keys
    machine = torch_pickle.TensorMachine(data, read, place=place)
    parts.append(machine.read())
    place, storages = machine.place, storages | machine.storages
    if parts[0] != _MAGIC:
      raise _WrongFile("is no file of torch.save")
  if parts[1] != _PROTOCOL or not isinstance(parts[4], list):
    raise _WrongFile("is of an unknown form of torch.save")
  for key in parts[4]:
    if key not in storages:
      raise _WrongFile("has numbers that no tensor is made of")
    storage = storages[key]
    size = storage.count * storage.dtype.itemsize
    header = data[place : place + 8]
    if len(header) < 8 or struct.unpack("<q", header)[0] != storage.count:
      raise _WrongFile("is damaged: its numbers are not as many as announced")
    places[key], sizes[key] = place + 8, size
    place += 8 + size
  if place > len(data) or storages.keys() != places.keys():
    raise _WrongFile("ends early")
  return parts[3]
