"""What a file is, by its first bytes: said to people who gave the wrong one.

Downloads end as web pages, clones without Git LFS as pointers, and suffixes
such as .bin or .pth say little. Each reader of files that people give asks here
before it says "damaged".
"""

import dataclasses
import os
import re
import zipfile
from collections.abc import Collection

# As many bytes are looked at.
HEAD = 512


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of file.

  Attributes:
    name: for programs.
    words: for people.
    advice: what to do who did not want this kind.
  """

  name: str
  words: str
  advice: str = ""


_SCRIPT = Kind(
  "torchscript",
  "a TorchScript module",
  "save its weights alone, with torch.save(torch.jit.load(FILE).state_dict(),"
  " OTHER)",
)
_PAGE = Kind(
  "html",
  "an HTML page",
  "the download brought a web page in its place, often for want of a login or"
  " of a confirmation: open it in a browser, and fetch the file again",
)
# The beginning of the text, in lower case -> what it is. In this order.
_TEXTS = (
  ("version https://git-lfs.", Kind(
    "lfs",
    "a Git LFS pointer",
    "the file itself is still to be fetched, with `git lfs pull` in the"
    " repository that it comes from",
  )),
  ("<!doctype html", _PAGE),
  ("<html", _PAGE),
  ("<head", _PAGE),
  ("<script", _PAGE),
  ("<!--", _PAGE),
  ("<?xml", Kind("xml", "an XML text", "a server's message, perhaps")),
  ("{\"", Kind("json", "a JSON text")),
  ("{\n", Kind("json", "a JSON text")),
  ("{\r\n", Kind("json", "a JSON text")),
)  # fmt: skip
_ONNX = Kind(
  "onnx",
  "an ONNX model",
  "nets are exported to ONNX, and imported from weights in .pth, .pt or"
  " .safetensors",
)
HEIC = Kind(
  "heic",
  "a HEIC photo",
  "with pillow-heif it can be read (pip install 'facejax[heic]'), or convert it"
  " to JPEG",
)
VIDEO = Kind("video", "a video", "take the pictures out of it first")
_ZIP = Kind("zip", "a zip archive", "unpack it")
_BYTES = (
  (b"\x80\x02", Kind("pickle", "a pickle")),
  (b"\x80\x03", Kind("pickle", "a pickle")),
  (b"\x80\x04", Kind("pickle", "a pickle")),
  (b"\x80\x05", Kind("pickle", "a pickle")),
  (b"\x93NUMPY", Kind("npy", "an array of NumPy (.npy)")),
  (b"\x89HDF\r\n\x1a\n", Kind("hdf5", "an HDF5 file, as of Keras")),
  (b"PAR1\x15", Kind("parquet", "a Parquet file")),
  (b"\x0a\x23\xd7\xce", Kind("record_io", "a RecordIO file (.rec)")),
  (b"\x12\x01\0\0\0\0\0\0", Kind("mxnet", "weights of MXNet (.params)")),
  (b"ML\xefR", Kind("mlir", "a program in MLIR's bytecode")),
  (b"\xff\xd8\xff", Kind("jpeg", "a JPEG image")),
  (b"\x89PNG\r\n\x1a\n", Kind("png", "a PNG image")),
  (b"GIF87a", Kind("gif", "a GIF image")),
  (b"GIF89a", Kind("gif", "a GIF image")),
  (b"%PDF-", Kind("pdf", "a PDF document")),
  (b"\x1f\x8b", Kind("gzip", "compressed with gzip", "unpack it")),
  (b"\xfd7zXZ\0", Kind("xz", "compressed with xz", "unpack it")),
  (b"\x28\xb5\x2f\xfd", Kind("zstd", "compressed with zstd", "unpack it")),
  (b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7z archive", "unpack it")),
  (b"Rar!", Kind("rar", "a RAR archive", "unpack it")),
  (b"PK\x03\x04", _ZIP),
)
_SAFETENSORS = Kind("safetensors", "a .safetensors file")
_TFLITE = Kind("tflite", "a TensorFlow Lite model")
# After the length of the first box, what it is; brands of it, for photos.
_BOXES = re.compile(rb"\0[\s\S]{3}(ftyp|moov|mdat|wide|free|skip)")
_PHOTO_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
_VIDEOS = re.compile(
  rb"\x1a\x45\xdf\xa3|RIFF[\s\S]{4}AVI |FLV\x01|\x30\x26\xb2\x75\x8e\x66\xcf"
  rb"|\0\0\x01[\xba\xb3]|\x47\x40[\0\x11]"
)
_BZIP2 = Kind("bzip2", "compressed with bzip2", "unpack it")
_TAR = Kind("tar", "a tar archive", "unpack it")


def of_bytes(head: bytes) -> Kind | None:
  """The kind of a file that begins so, if it is one of those known here.

  >>> of_bytes(b"<!DOCTYPE html><title>Sign in").words
  'an HTML page'
  """
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
  for begins, kind in _TEXTS:
    if text.startswith(begins.encode()):
      return kind
  for begins, kind in _BYTES:
    if head.startswith(begins):
      return kind
  boxes = re.match(_BOXES, head)
  if boxes and boxes[1] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
    return Kind("avif", "an AVIF image", "convert it to JPEG")
  if boxes and boxes[1] == b"ftyp" and head[8:12] in _PHOTO_BRANDS:
    return HEIC
  if boxes or re.match(_VIDEOS, head):
    return VIDEO
  # Names in lists may begin like these, so that more is asked for.
  if re.match(rb"[\x08-\x40]\0\0\0TFL3", head):
    return _TFLITE
  if re.match(rb"BZh[1-9]1AY&SY", head):
    return _BZIP2
  if head[257:262] == b"ustar":
    return _TAR
  if re.match(rb"[\s\S]{5}\0\0\0\{\"", head):  # a length of 8 bytes, then JSON
    return _SAFETENSORS
  # A protocol buffer: the version of the format, then who made it or the graph.
  if re.match(rb"\x08[\x01-\x1f][\x12:][\s\S]", head):
    return _ONNX
  return None


def of_file(path: str | os.PathLike[str]) -> Kind | None:
  """The kind of a file; archives are looked into. None if it cannot be read."""
  try:
    with open(path, "rb") as file:
      kind = of_bytes(file.read(HEAD))
    if kind is not _ZIP:
      return kind
    with zipfile.ZipFile(path) as archive:
      return _of_archive(archive.namelist())
  except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
    return None


def _of_archive(names: Collection[str]) -> Kind:
  ends = {name.rpartition("/")[2] for name in names}
  if "constants.pkl" in ends:
    return _SCRIPT
  if "data.pkl" in ends:
    return Kind("torch", "a file of torch.save")
  if any(name.endswith(".npy") for name in names):
    return Kind("npz", "arrays of NumPy (.npz)")
  return _ZIP


def complaint(kind: Kind | None, wanted: str) -> str | None:
  """What to say of a file of another kind than was wanted.

  >>> complaint(of_bytes(b"%PDF-1.7"), "an image")
  'is a PDF document, not an image'
  """
  if kind is None:
    return None
  return f"is {kind.words}, not {wanted}" + (kind.advice and f": {kind.advice}")


def refuse(
  path: str | os.PathLike[str], wanted: str, kinds: Collection[str] = ()
) -> None:
  """Refuses a file that is certainly of another kind.

  Args:
    path: the file; one that is not there passes.
    wanted: for people, such as "a list of pairs".
    kinds: names of the kinds that pass. So does what is unknown.

  Raises:
    ValueError: naming the file, what it is and what is to be done.
  """
  kind = of_file(path)
  if kind is not None and kind.name not in kinds:
    raise ValueError(f"{os.fspath(path)!r} {complaint(kind, wanted)}")
