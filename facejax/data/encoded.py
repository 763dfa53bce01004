"""Encoded images in random access, and the source that decodes them.

Folders, record files and data sets of TFDS differ in where the bytes of an
image lie; all that is done with images afterwards is the same.
"""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from facejax.data import images, orientation, sources


class EncodedImages(sources.Labelled, Protocol):
  """Labelled image files, from any thread or process.

  Instances pickle small and fast: a copy opens its files anew. Nothing is read
  before it is asked for but what the attributes need.
  """

  def encoded(self, index: int, /) -> bytes:
    """Returns the file of one image as it was stored (JPEG, PNG …).

    Raises:
      images.BadImageError: The bytes cannot be read; the message names them.
    """
    ...

  def name(self, index: int, /) -> str:
    """Returns `identity/file` of an image, as messages and copies call it."""
    ...


class Decoded:
  """The images of an `EncodedImages`, decoded when asked for; a `Source`."""

  def __init__(
    self,
    files: EncodedImages,
    *,
    image_size: tuple[int, int],
    crop: float = 1.0,
    exif: orientation.Exif = "apply",
  ):
    """Notes what to do with each image.

    Args:
      files: Where the bytes come from.
      image_size: Height and width that the images are brought to.
      crop: Share of the centre of each image that is kept, in (0, 1].
      exif: Whether images are turned as their EXIF says; see `images.decode`.

    Raises:
      ValueError: `crop` or `image_size` is out of range.
    """
    if not 0.0 < crop <= 1.0:
      raise ValueError(f"crop must lie in (0, 1], got {crop}")
    if len(image_size) != 2 or min(image_size) < 1:
      raise ValueError(
        f"image_size must be (height, width) in pixels, got {image_size}"
      )
    self.files = files
    self.image_size = (int(image_size[0]), int(image_size[1]))
    self.crop = crop
    self.exif: orientation.Exif = exif

  @property
  def num_classes(self) -> int:
    return self.files.num_classes

  @property
  def labels(self) -> np.ndarray:
    return self.files.labels

  @property
  def class_names(self) -> Sequence[str]:
    return self.files.class_names

  def __len__(self) -> int:
    return len(self.files)

  def name(self, index: int) -> str:
    return self.files.name(index)

  def __getitem__(self, index: int) -> np.ndarray:
    data = self.files.encoded(index)
    image = images.decode(
      data, name=lambda: self.files.name(index), exif=self.exif
    )
    return images.fit(image, image_size=self.image_size, crop=self.crop)


def read_file(path: str | os.PathLike[str]) -> bytes:
  """Returns the content of a file.

  Raises:
    images.BadImageError: It cannot be opened.
  """
  try:
    # Read at once: a buffer in between would cost as much again.
    with open(path, "rb", buffering=0) as file:
      return file.readall()
  except OSError as error:
    raise images.BadImageError(
      f"{os.fspath(path)!r} cannot be opened: {error.strerror}"
    ) from None
