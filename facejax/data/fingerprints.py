"""One number for a set of images: the same labels, people and names."""

import hashlib
import re
from collections.abc import Callable, Iterable

import numpy as np

from facejax.data import encoded

_CHUNK = 4096
_LABELS = 2**20
_BACKSLASHED = re.compile(r"\\x([89a-f][0-9a-f])")


def fingerprint(
  files: encoded.EncodedImages,
  advance: Callable[[int], object] = lambda count: None,
) -> str:
  """Returns a SHA-256 over labels, names of the identities and of the images.

  The images themselves are not read. A set of array records knows its own;
  elsewhere every name is asked for, about 2 seconds a million in a folder.

  Args:
    files: The set.
    advance: Told how many more names were looked at.

  Returns:
    64 hexadecimal digits.
  """
  known = getattr(files, "fingerprint", None)
  if isinstance(known, str):
    advance(len(files))
    return known
  digest = hashlib.sha256(b"%d %d " % (len(files), files.num_classes))
  for begin in range(0, len(files), _LABELS):
    digest.update(files.labels[begin : begin + _LABELS].astype("<i4").tobytes())
  for begin in range(0, files.num_classes, _CHUNK):
    _update(digest, files.class_names[begin : begin + _CHUNK])
  for begin in range(0, len(files), _CHUNK):
    places = range(begin, min(begin + _CHUNK, len(files)))
    _update(digest, map(files.name, places))
    advance(len(places))
  return digest.hexdigest()


def _update(digest, names: Iterable[str]) -> None:
  texts = [name.encode("utf-8", "surrogatepass") for name in names]
  # With the lengths, so that a name may hold any character.
  digest.update(np.asarray([len(text) for text in texts], "<u4").tobytes())
  digest.update(b"".join(texts))


def shuffled(source: str, seed: int) -> str:
  """Returns the fingerprint of a set in the random order of a seed.

  Args:
    source: The fingerprint of the set in its own order.
    seed: What the order was drawn from.
  """
  return hashlib.sha256(f"{source} shuffled by {seed}".encode()).hexdigest()


def name_on_disk(printable: str) -> bytes:
  r"""Returns the file name that `text_lines.printable` made readable.

  >>> name_on_disk("Jos\\xe9.jpg"), name_on_disk("José.jpg")
  (b'Jos\xe9.jpg', b'Jos\xc3\xa9.jpg')
  """
  # printable() writes only bytes from 0x80 on that way, and lets all else be.
  bytes_kept = _BACKSLASHED.sub(
    lambda found: chr(0xDC00 + int(found[1], 16)), printable
  )
  return bytes_kept.encode("utf-8", "surrogateescape")


def names_on_disk(
  files: encoded.EncodedImages, index: int
) -> tuple[bytes, bytes]:
  """Returns the names of the identity and of the file of an image."""
  identity = files.class_names[int(files.labels[index])]
  name = files.name(index)
  if name.startswith(f"{identity}/"):
    file = name[len(identity) + 1 :]
  else:
    file = name.rpartition("/")[2]
  return name_on_disk(identity), name_on_disk(file)
