"""The features of a data set of TFDS that show an image and its identity."""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import message

from facejax.data import images
from facejax.data.stores import tfds_index
from facejax.runtime import file_kinds, text_lines

_FILE_KEYS = ("file", "file_name", "filename", "image/filename", "id")
# A description names Python classes, whose modules TFDS imports.
_TRUSTED = "tensorflow_datasets."
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type", "proto_cls")


@dataclasses.dataclass(frozen=True)
class Keys:
  """Where image, identity and name stand in a record.

  Attributes:
    image: The feature with the encoded image.
    label: The feature with the identity: a number or a name.
    file: The feature with the name of the file, if there is one.
    num_labels: Labels lie below this; None where the data set does not say.
  """

  image: str
  label: str
  file: str | None
  num_labels: int | None

  def entry(self, record: bytes) -> tfds_index.ShardEntry:
    """Takes apart a record for its label and the name of its file.

    Raises:
      images.BadImageError: It is damaged.
      ValueError: Its label is none.
    """
    features = _parse(record)
    label = _value(features, self.label)
    if isinstance(label, int):
      if label < 0:
        raise ValueError(
          f"label {label} of {self.label!r} means that an image has none;"
          " choose a split with labels"
        )
      if self.num_labels is not None and label >= self.num_labels:
        raise images.BadImageError(
          f"has label {label}, but there are {self.num_labels}"
        )
    has_file = self.file is not None and self.file in features
    file = _value(features, str(self.file)) if has_file else b""
    if not isinstance(file, bytes):
      raise images.BadImageError(f"has a number for {self.file!r}")
    # Only the last part: what comes before it is the identity, or an attack.
    return tfds_index.ShardEntry(label, file.rpartition(b"/")[2])

  def image_bytes(self, record: bytes) -> bytes:
    """Returns the encoded image of a record.

    Raises:
      images.BadImageError: It is damaged.
    """
    value = _value(_parse(record), self.image)
    if not isinstance(value, bytes):
      raise images.BadImageError(f"has a number for {self.image!r}")
    return value


@functools.cache
def _parser() -> Callable[[bytes], Any]:
  # Only when it is needed: TFDS takes seconds to import.
  from tensorflow_datasets.proto import tf_example_pb2

  protos: Any = tf_example_pb2
  return protos.Example.FromString


def _parse(record: bytes) -> Mapping[str, Any]:
  try:
    return _parser()(record).features.feature
  except message.DecodeError as error:
    raise images.BadImageError(f"is no example of TFDS: {error}") from None


def _value(features: Mapping[str, Any], key: str) -> int | bytes:
  # Asking the map itself for what it lacks would add it.
  feature = features.get(key)
  kind = feature.WhichOneof("kind") if feature is not None else None
  values = getattr(feature, kind).value if kind else ()
  if kind not in ("bytes_list", "int64_list") or len(values) != 1:
    raise images.BadImageError(f"has no {key!r}")
  return values[0]


def check_description(path: str) -> None:
  """Refuses a description that would make TFDS import foreign modules.

  Args:
    path: The folder of the data set.

  Raises:
    ValueError: It is damaged, missing, or names classes that are not TFDS'.
  """
  file = os.path.join(path, "features.json")
  file_kinds.refuse(file, "a JSON text", ("json",))
  try:
    with open(file, encoding="utf-8") as text:
      named = list(_classes(json.load(text)))
  except FileNotFoundError:
    raise ValueError(
      f"{path!r} has no features.json; make it again with TFDS 4 or newer"
    ) from None
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{file!r} is damaged: {error}") from None
  foreign = [name for name in named if not name.startswith(_TRUSTED)]
  if foreign:
    raise ValueError(
      f"{file!r} names {foreign[0]!r}, which is no feature of TFDS; to read it"
      " would run code that the data set chooses"
    )


def _classes(node: Any) -> Iterator[str]:
  if isinstance(node, list):
    for child in node:
      yield from _classes(child)
  elif isinstance(node, dict):
    for key, child in node.items():
      if key in _CLASS_KEYS and isinstance(child, str):
        yield child
      else:
        yield from _classes(child)


def keys(
  info: Any, path: str, *, image_key: str | None, label_key: str | None
) -> Keys:
  """Finds the features to read.

  Those that the data set calls supervised come first, then `image` and `label`,
  then the only ones of their kind.

  Args:
    info: The `DatasetInfo`.
    path: What messages call the data set.
    image_key: The one to take instead.
    label_key: The one to take instead.

  Raises:
    ValueError: There is none, or more than one.
  """
  import tensorflow_datasets as tfds

  kinds = tfds.features
  is_dict = isinstance(info.features, kinds.FeaturesDict)
  features = dict(info.features.items()) if is_dict else {}
  supervised = info.supervised_keys
  if not supervised or not all(isinstance(key, str) for key in supervised):
    supervised = (None, None)
  image = _choose(
    "image",
    [key for key, f in features.items() if isinstance(f, kinds.Image)],
    (image_key, supervised[0], "image"),
    path,
  )
  if features[image].np_dtype != np.uint8:
    raise ValueError(
      f"feature {image!r} of {path!r} has pixels of type"
      f" {np.dtype(features[image].np_dtype)}; only uint8 can be read"
    )
  label = _choose(
    "label",
    [key for key, feature in features.items() if _is_label(kinds, feature)],
    (label_key, supervised[1], "label"),
    path,
  )
  texts = [key for key, f in features.items() if isinstance(f, kinds.Text)]
  file = next(
    (key for key in _FILE_KEYS if key in texts and key != label), None
  )
  return Keys(image, label, file, getattr(features[label], "num_classes", None))


def _is_label(kinds: Any, feature: Any) -> bool:
  if isinstance(feature, kinds.ClassLabel | kinds.Text):
    return True
  is_number = isinstance(feature, kinds.Tensor) and feature.shape == ()
  return is_number and np.issubdtype(feature.np_dtype, np.integer)


def _choose(
  what: str,
  candidates: Sequence[str],
  preferred: Sequence[str | None],
  path: str,
) -> str:
  if preferred[0] is not None and preferred[0] not in candidates:
    raise ValueError(
      f"{path!r} has no {what} feature {preferred[0]!r}; it has"
      f" {', '.join(candidates) or 'none'}"
    )
  for key in preferred:
    if key in candidates:
      return str(key)
  if len(candidates) == 1:
    return candidates[0]
  found = f"several: {', '.join(candidates)}" if candidates else "none"
  raise ValueError(
    f"{path!r} must have one {what} feature and has {found}; name it with"
    f" {what}_key"
  )


def class_names(feature: Any, labels: Sequence[int | str]) -> list[str]:
  """Returns what the classes of these labels are called.

  Args:
    feature: The label's.
    labels: One of each class.
  """
  import tensorflow_datasets as tfds

  known = isinstance(feature, tfds.features.ClassLabel)

  def name(label: int | str) -> str:
    # Not `feature.names`: where there are none, that makes up as many as the
    # file claims classes.
    if known and isinstance(label, int) and label < (feature.num_classes or 0):
      with contextlib.suppress(IndexError):  # fewer names than classes
        return text_lines.printable(feature.int2str(label))
    return str(label)

  return [name(label) for label in labels]
