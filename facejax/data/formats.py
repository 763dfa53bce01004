"""The formats that sets of images come in: which one it is, and opening it."""

import os
from collections.abc import Sequence
from typing import Literal, cast, get_args

from facejax.data import corrections, encoded
from facejax.data.stores import array_records, folder, record_io, tfds_images

Format = Literal["folder", "record_io", "array_record", "tfds"]
FORMATS: tuple[str, ...] = get_args(Format)


def guess(path: str | os.PathLike[str]) -> Format:
  """Returns the format of the set at a path, by the files that lie there.

  Args:
    path: A folder, or a `.rec` file.

  Returns:
    The format; `folder` when nothing speaks for another.

  Raises:
    ValueError: It is a folder with several .rec files, none of them train.rec.
  """
  path = os.fspath(path)
  if path.endswith(".rec") or record_io.file_in(path) is not None:
    return "record_io"
  marks: dict[str, Format] = {
    "facejax.json": "array_record",
    "dataset_info.json": "tfds",
  }
  for file, form in marks.items():
    if os.path.exists(os.path.join(path, file)):
      return form
  return "folder"


def parse_place(text: str) -> tuple[Format, str]:
  """Splits `FORMAT:PATH`.

  Raises:
    ValueError: It is not of that form.

  >>> parse_place("record_io:sets/ms1mv3")
  ('record_io', 'sets/ms1mv3')
  """
  form, _, path = text.partition(":")
  if form not in FORMATS or not path:
    raise ValueError(
      f"{text!r}: give SOURCE:PATH, where SOURCE is one of {', '.join(FORMATS)}"
    )
  return cast(Format, form), path


def open_images(
  path: str | os.PathLike[str],
  form: Format | None = None,
  *,
  split: str = "train",
  only: Sequence[str] | None = None,
  without: Sequence[str] = (),
  renamed: corrections.Renamed | None = None,
  min_images: int = 1,
  max_bad_share: float = 0.01,
  recursive: bool = False,
) -> encoded.EncodedImages:
  """Opens a set of images, or a part of it.

  Args:
    path: Where it lies.
    form: Its format; None guesses.
    split: The split of a data set of TFDS.
    only: Names of the identities to keep; None keeps all.
    without: Names of identities, and of images as PERSON/IMAGE, to leave out.
    renamed: Corrections of labels; `only` and `min_images` see them done.
    min_images: Identities with fewer images are left out.
    max_bad_share: The largest share of damaged files in a folder.
    recursive: Whether a folder's identities have images in deeper folders too.

  Raises:
    FileNotFoundError: There is nothing at the path.
    ValueError: It is not of this format, or damaged, nothing is left of it, or a
      correction names what is not there.
  """
  form = form or guess(path)
  correcting = renamed is not None and any(renamed)
  files: encoded.EncodedImages
  if form == "folder":
    # Only folders can be spared: the others know all their labels at once.
    files = folder.scanned(
      path,
      identities=None if correcting else only,
      max_bad_share=max_bad_share,
      recursive=recursive,
    )
  elif form == "record_io":
    files = record_io.RecordIO(path)
  elif form == "array_record":
    files = array_records.ArrayRecords(path)
  else:
    files = tfds_images.TfdsImages(path, split=split)
  if only is None and not without and not correcting and min_images == 1:
    return files
  return corrections.corrected(
    files, only=only, without=without, renamed=renamed, min_images=min_images
  )
