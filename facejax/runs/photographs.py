"""Photographs as a net wants its faces: found, and aligned to its template.

An image that is an aligned face already, its points where the template has them,
stays as it is.
"""

import dataclasses
import io
import math
import os
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from facejax.data import encoded, image_sets, images
from facejax.data.aligning import landmarks as geometry
from facejax.data.aligning import photo
from facejax.data.detectors import contract, registry
from facejax.runs import card as card_lib
from facejax.runtime import extras, text_lines

Align: TypeAlias = Literal["auto", "on", "off"]
# How far a point of an aligned face may lie from the template's, as a share of
# the image's side: detectors differ by some hundredths, faces by some more.
_NEAR = 0.1
_NO_DETECTOR = (
  "taken for aligned faces: pip install 'facejax[detect]' finds faces in"
  " photographs"
)


@dataclasses.dataclass(frozen=True)
class Face:
  """What a picture is to a net.

  Attributes:
    pixels: uint8 RGB [height, width, 3], aligned.
    faces: how many faces were found in it; None where nothing looked.
    note: what somebody should know, or "".
  """

  pixels: np.ndarray
  faces: int | None
  note: str = ""

  @property
  def certain(self) -> bool:
    """Whether it may be judged: not where somebody looked and found no face."""
    return self.faces != 0


class Photographer:
  """Makes faces of pictures, all for one net.

  Args:
    card: of the net.
    align: "auto" aligns where the detector is installed, and takes a picture
      without a face as it is; "on" must find a face; "off" takes all as they
      are.
    detector: the name of one.

  Raises:
    MissingPackageError: with "on", if the detector's package is missing.
    ValueError: if there is no such detector.
  """

  def __init__(
    self, card: card_lib.Card, align: Align = "auto", detector: str = "mtcnn"
  ):
    self._card, self._align = card, align
    self._detect: contract.Detector | None = None
    if align == "off":
      return
    try:
      self._detect = registry.load(registry.Choice(detector))
    except extras.MissingPackageError:
      if align == "on":
        raise

  @property
  def looks(self) -> bool:
    """Whether it looks for faces; otherwise pictures stay as they are."""
    return self._detect is not None

  @property
  def note(self) -> str:
    """What is to be said of all pictures at once, or ""."""
    missing = self._align == "auto" and self._detect is None
    return _NO_DETECTOR if missing else ""

  def face(self, path: str | os.PathLike[str]) -> Face:
    """The face that a file shows.

    Raises:
      FileNotFoundError: if there is no file.
      BadImageError: if it cannot be read, or must show a face and does not.
    """
    path = os.path.expanduser(os.fspath(path))
    name = text_lines.printable(path)
    return self.of_data(encoded.read_file(path), name)

  def of_data(self, data: bytes, name: str) -> Face:
    """The same of an encoded image."""
    exif = self._card.exif
    image = images.decode(data, name=name, exif=exif)
    if self._detect is None:
      return Face(image, None)
    faces = self._detect(image)
    if not len(faces):
      if self._align == "on":
        raise images.BadImageError(f"{name!r} shows no face that was found")
      return Face(image, 0, f"{name}: no face was found in it, taken as it is")
    main = photo.main_face(faces, image, 1)
    points = faces.points[main]
    note = ""
    if len(faces) > 1:
      note = (
        f"{name}: {len(faces)} faces, of which the main one counts (large, near"
        " the middle)"
      )
    if self._is_aligned(image, points):
      return Face(image, len(faces), note)
    aligned = geometry.align(
      image, points, image_size=self._size(), kind=self._card.template
    )
    return Face(aligned, len(faces), note)

  def _size(self) -> tuple[int, int]:
    """Of a whole aligned face, of which the net may see the middle alone."""
    height, width = geometry.size_of(self._card.template)
    wanted = self._card.image_size
    if 96 * wanted[0] == 112 * wanted[1]:
      width = 96 * height // 112
    factor = max(1, math.ceil(wanted[0] / self._card.crop / height))
    return height * factor, width * factor

  def _is_aligned(self, image: np.ndarray, points: np.ndarray) -> bool:
    height, width = image.shape[:2]
    size = self._size()
    if height * size[1] != width * size[0]:
      return False
    wanted = geometry.template((height, width), self._card.template)
    return bool(np.abs(points - wanted).max() < _NEAR * height)


class AlignedSet:
  """A set of pictures whose images are the faces in them."""

  def __init__(
    self,
    files: encoded.EncodedImages,
    photographer: Photographer,
    tell: Callable[[str], None],
  ):
    self._files, self._photographer, self._tell = files, photographer, tell
    self.num_classes, self.labels = files.num_classes, files.labels
    self.class_names = files.class_names

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    """As the files have it."""
    return self._files.name(index)

  def path(self, index: int) -> str:
    """Where the picture lies."""
    return image_sets.image_path(self._files, index)

  def encoded(self, index: int) -> bytes:
    """The face of a picture, without loss."""
    name = self.path(index)
    face = self._photographer.of_data(self._files.encoded(index), name)
    if face.note:
      self._tell(face.note)
    file = io.BytesIO()
    Image.fromarray(face.pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
