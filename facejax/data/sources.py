"""What the pipeline and the evaluations read images from."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from facejax.data import images


class Labelled(Protocol):
  """Images in random access, of which identity and name are known.

  Attributes:
    num_classes: How many identities there are.
    labels: int32 [len], the identity of each image, in [0, num_classes).
    class_names: The name of each identity.
  """

  @property
  def num_classes(self) -> int: ...

  @property
  def labels(self) -> np.ndarray: ...

  @property
  def class_names(self) -> Sequence[str]: ...

  def __len__(self) -> int: ...

  def name(self, index: int, /) -> str:
    """Returns what messages and reports call the image."""
    ...


class Source(Labelled, Protocol):
  """Labelled images, decoded; any thread may read any of them."""

  def __getitem__(self, index: int, /) -> np.ndarray:
    """Returns uint8 RGB [height, width, 3], of one size for all.

    Raises:
      images.BadImageError: This image cannot be read.
    """
    ...


def check_labels(source: Labelled) -> None:
  """Refuses labels that name none of a source's identities.

  Raises:
    ValueError: One is no whole number, below 0, or num_classes or more; says
      which.
  """
  labels = np.asarray(source.labels)
  if labels.dtype.kind not in "iu":
    raise ValueError(
      f"the labels of the training images are {labels.dtype}, not whole numbers"
    )
  bad = np.flatnonzero((labels < 0) | (labels >= source.num_classes))
  if bad.size:
    raise ValueError(
      f"{bad.size:,} of {len(labels):,} training images have a label outside of"
      f" 0 to {source.num_classes - 1:,}, such as {labels[bad[0]]} of"
      f" {source.name(int(bad[0]))!r}"
    )


class CachedSource:
  """Keeps the decoded images of another source in memory.

  An image is decoded when it is first asked for and costs height * width * 3
  bytes from then on. The arrays handed out are read-only views. A copy sent to
  another process starts empty.
  """

  def __init__(self, source: Source, limit_bytes: int = 4 * 1024**3):
    """Reserves the memory.

    Args:
      source: Where the images come from.
      limit_bytes: The most memory that the images may take.

    Raises:
      ValueError: All images together would take more than `limit_bytes`.
      images.BadImageError: No image of the source can be read.
    """
    shape = _image_shape(source)
    need = len(source) * int(np.prod(shape))
    if need > limit_bytes:
      raise ValueError(
        f"keeping {len(source):,} images of {shape[0]} x {shape[1]} takes"
        f" {need / 1e9:.2f} GB, more than the limit of"
        f" {limit_bytes / 1e9:.2f} GB; raise the limit, use smaller images or"
        " read from the files"
      )
    self.source = source
    self._limit_bytes = limit_bytes
    # The system hands out the pages of an untouched array only when they are
    # written, so that what is never read costs nothing.
    self._images = np.empty((len(source), *shape), np.uint8)
    self._filled = np.zeros(len(source), bool)

  def __reduce__(self):
    return CachedSource, (self.source, self._limit_bytes)

  @property
  def num_classes(self) -> int:
    return self.source.num_classes

  @property
  def labels(self) -> np.ndarray:
    return self.source.labels

  @property
  def class_names(self) -> Sequence[str]:
    return self.source.class_names

  def name(self, index: int) -> str:
    return self.source.name(index)

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> np.ndarray:
    # Two threads may decode the same image at once. Both write the same bytes,
    # and a slot is marked only after it is whole: no lock is needed.
    if not self._filled[index]:
      image = self.source[index]
      if image.shape != self._images.shape[1:]:
        raise ValueError(
          f"{self.name(index)!r} is {image.shape[0]} x {image.shape[1]}, the"
          f" first image {self._images.shape[1]} x {self._images.shape[2]};"
          " a source must give images of one size"
        )
      self._images[index] = image
      self._filled[index] = True
    view = self._images[index]
    view.flags.writeable = False
    return view


def _image_shape(source: Source) -> tuple[int, ...]:
  complaint = "the source is empty"
  for index in range(len(source)):
    try:
      return source[index].shape
    except images.BadImageError as error:
      complaint = str(error)
  raise images.BadImageError(f"no image can be read; the last: {complaint}")
