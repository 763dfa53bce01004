"""People of the audited set who are in a test set, by face: not to train on."""

import pathlib
from collections.abc import Iterator

from facejax.data import encoded, image_sets
from facejax.evaluation import overlap_by_face, overlap_lists, overlap_search
from facejax.runs import embedder
from facejax.runtime import distributed

NAME = "tested"
_ROWS = 1 << 14


def opened(
  path: str, files: encoded.EncodedImages
) -> encoded.EncodedImages | None:
  """The test set, before the work begins; None for "".

  Args:
    path: a folder a person, or a list with names.
    files: the audited set.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if people are not told in one of the sets, or are too few.
  """
  if not path:
    return None
  found = image_sets.open_set(path)
  overlap_by_face.check(found.num_classes, files.num_classes, 0.5)
  return found


def people(
  model: embedder.Embedder,
  files: encoded.EncodedImages,
  source: encoded.Decoded,
  trained: overlap_by_face.Vectors,
  *,
  batch_size: int,
  out: pathlib.Path,
) -> list[str]:
  """Names of the audited set; their lists are written beside the audit's.

  All processes take part, and one writes; see `overlap_lists` for the files.

  Args:
    model: the net.
    files: the test set.
    source: the audited set.
    trained: its embeddings.
    batch_size: images at once, over all devices.
    out: the folder of the audit.
  """
  found, _ = overlap_search.shared(
    model,
    [model.decoded(files), source],
    _blocks(trained),
    batch_size=batch_size,
  )
  if distributed.primary():
    overlap_lists.write(out, NAME, found, [files, source.files])
  names = source.class_names
  return sorted({str(names[theirs]) for _, theirs in found.people()})


def _blocks(
  whole: overlap_by_face.Vectors,
) -> Iterator[overlap_by_face.Vectors]:
  for start in range(0, len(whole.rows), _ROWS):
    yield overlap_by_face.Vectors(
      *(part[start : start + _ROWS] for part in whole)
    )
