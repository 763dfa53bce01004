"""Data sets of TensorFlow Datasets, read without TensorFlow."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from facejax.data import images
from facejax.data.stores import array_shards, tfds_features, tfds_index
from facejax.runtime import text_lines

_INFO = "dataset_info.json"
_EXPECTED = (
  f"expected DATA_DIR/NAME/VERSION with {_INFO}, as tfds' download_and_prepare"
  " or python -m facejax.data.tfds_builder write it"
)


class TfdsImages:
  """A split of any image classification data set of TFDS, in array_record.

  The labels stand inside the records: the first time all are read, and what was
  found is kept beside the data set, in a folder `facejax-index-…` that may be
  deleted. Damaged records are left out. Labels that no image has are skipped
  over: classes are counted from 0 without gaps.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    split: str = "train",
    *,
    image_key: str | None = None,
    label_key: str | None = None,
    max_bad_share: float = 0.01,
  ):
    """Opens the data set; reads all of it when it is new.

    Args:
      path: The folder DATA_DIR/NAME/VERSION; also one above it that holds one
        version.
      split: Such as `train`, `train[:90%]`, `train+test`.
      image_key: The feature with the image; None finds it.
      label_key: The feature with the identity; None finds it.
      max_bad_share: The largest share of damaged records that is accepted.

    Raises:
      FileNotFoundError: There is no such folder, or a shard is missing.
      ValueError: It is no data set of TFDS, or in another file format, has no
        such split or feature, or too many records are damaged.
    """
    self.path, self.split = _version_folder(os.fspath(path)), split
    builder = _builder(self.path)
    self._keys = tfds_features.keys(
      builder.info, self.path, image_key=image_key, label_key=label_key
    )
    shards = _shards(builder, self.path, split)
    self._records = _open(shards)
    self._index = self._find_index(shards, max_bad_share)
    self.class_names: list[str] = tfds_features.class_names(
      builder.info.features[self._keys.label], self._index.classes
    )

  def _find_index(
    self, shards: Sequence[Any], max_bad_share: float
  ) -> tfds_index.LabelIndex:
    mark = tfds_index.fingerprint(
      [(shard.filename, shard.skip, shard.take) for shard in shards],
      *(self._keys.label, self._keys.file),
    )
    folder = os.path.join(self.path, f"facejax-index-{mark}")
    try:
      index = tfds_index.load(folder)
      if index.records[-1] < len(self._records):
        return index
    except (FileNotFoundError, ValueError):
      pass
    try:
      self._records.check()
    except ValueError as error:
      raise ValueError(
        f"a shard is not what {_INFO} claims: {error}; copy or make it again"
      ) from None
    index = tfds_index.gather(
      self._records,
      self._keys.entry,
      name=f"split {self.split!r} of {self.path!r}",
      max_bad_share=max_bad_share,
    )
    return tfds_index.save(index, folder)

  @property
  def num_classes(self) -> int:
    return len(self._index.classes)

  @property
  def labels(self) -> np.ndarray:
    return self._index.labels

  def __len__(self) -> int:
    return len(self._index.labels)

  def name(self, index: int) -> str:
    self._check_range(index)
    identity = self.class_names[self._index.labels[index]]
    file = self._index.file(index) or f"{self._index.records[index]:08d}"
    return text_lines.printable(f"{identity}/{file}")

  def encoded(self, index: int) -> bytes:
    self._check_range(index)
    try:
      record = self._records[int(self._index.records[index])]
      return self._keys.image_bytes(record)
    # What array_record says of damage, of a lost file and of a lost record.
    except (RuntimeError, ValueError, IndexError, OSError) as error:
      raise images.BadImageError(
        f"{self.name(index)!r} in {self.path!r} cannot be read: {error}"
      ) from None

  def _check_range(self, index: int) -> None:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")


def _version_folder(path: str) -> str:
  """Returns the folder that holds the description of the data set."""
  if not os.path.exists(path):
    raise FileNotFoundError(f"there is no data set {path!r}")
  if not os.path.isdir(path):
    raise ValueError(f"{path!r} is a file; {_EXPECTED}")
  if os.path.isfile(os.path.join(path, _INFO)):
    return path
  versions = [
    name
    for name in sorted(os.listdir(path))
    if os.path.isfile(os.path.join(path, name, _INFO))
  ]
  if not versions:
    raise ValueError(f"{path!r} is no data set of TFDS: {_EXPECTED}")
  if len(versions) > 1:
    raise ValueError(
      f"{path!r} holds {len(versions)} versions or configurations"
      f" ({', '.join(versions[:5])}); name one, such as"
      f" {os.path.join(path, versions[-1])!r}"
    )
  return os.path.join(path, versions[0])


def _builder(path: str) -> Any:
  tfds_features.check_description(path)
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(path)
    formats = {form.value for form in builder.info.available_file_formats()}
  # Protocol buffers, JSON and TFDS each have errors of their own.
  except Exception as error:
    raise ValueError(
      f"{path!r} is no data set that TFDS can read: {error}"
    ) from error
  if "array_record" not in formats:
    raise ValueError(
      f"{path!r} is stored as {' and '.join(sorted(formats)) or 'nothing'},"
      " which cannot be read in random order without TensorFlow. Make it again"
      " with download_and_prepare(file_format='array_record'), or, where"
      " TensorFlow is installed, convert it: tfds convert_format"
      f" --dataset_version_dir={path} --out_file_format=array_record"
    )
  return builder


def _shards(builder: Any, path: str, split: str) -> Sequence[Any]:
  """Returns which records of which files make up the split."""
  builder.info.set_file_format(
    "array_record", override=True, override_if_initialized=True
  )
  try:
    shards = list(builder.info.splits[split].file_instructions)
  except Exception as error:
    raise ValueError(
      f"{path!r} has no split {split!r}; it has"
      f" {', '.join(map(repr, builder.info.splits)) or 'none'}, of which parts"
      f" can be named, such as 'train[:90%]' ({type(error).__name__}: {error})"
    ) from None
  if not shards:
    raise ValueError(f"split {split!r} of {path!r} is empty")
  for shard in shards:
    if os.path.dirname(os.path.abspath(shard.filename)) != os.path.abspath(
      path
    ):
      raise ValueError(f"{path!r} names a shard elsewhere: {shard.filename!r}")
    if not os.path.isfile(shard.filename):
      raise FileNotFoundError(f"there is no shard {shard.filename!r}")
  return shards


def _open(shards: Sequence[Any]) -> array_shards.Shards:
  return array_shards.Shards(
    [
      array_shards.Piece(
        os.fspath(shard.filename),
        shard.examples_in_shard,
        shard.skip,
        shard.take,
      )
      for shard in shards
    ]
  )
