"""Probes and distractors: faces that come as images or as embeddings.

Distractors are handed on block by block, so that a million of them never lie in
memory at once.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from facejax.data import encoded, fingerprints, image_sets, refined
from facejax.evaluation import features, protocols
from facejax.runs import embedder
from facejax.runtime import progress
from facejax.vectors import embedding_stream, embeddings, gallery

_ROWS = 1 << 14


class Probes(NamedTuple):
  """Faces of known people.

  Attributes:
    vectors: embeddings of any length, [probes, dim].
    people: the person of each, int [probes].
    names: of the people.
    about: see `Distractors`.
    fingerprint: see there.
  """

  vectors: np.ndarray
  people: np.ndarray
  names: Sequence[str]
  about: str = ""
  fingerprint: str = ""


class Distractors(Protocol):
  """Faces of strangers, in an order of their own.

  Attributes:
    kept: which of them take part, bool [faces].
    about: that it is not known what made them; "" where the net did.
    fingerprint: of the names of images, "" of embeddings.
  """

  kept: np.ndarray
  about: str
  fingerprint: str

  def blocks(self) -> Iterator[np.ndarray]:
    """Embeddings of those that are kept, in order, [rows, dim] at a time."""
    ...


def probes(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  left_out: refined.RefinedList,
) -> Probes:
  """The probes in `options.path`: a file of embeddings, or images.

  Raises:
    ValueError: if nobody is named, an image cannot be read, or embeddings are
      those of another net.
  """
  if embeddings.is_file(options.path):
    found = embeddings.read(options.path)
    about = _check_net(model, found.about, options.path)
    rows = _rows(options.path, found.labels, found.paths.tolist(), left_out)
    labels = found.labels[rows]
    return Probes(found.vectors[rows], labels, found.names, about)
  files = image_sets.open_set(options.path)
  rows = _rows(options.path, files.labels, _paths(files), left_out)
  used = features.embedded(
    model, model.decoded(files), rows.tolist(), options.batch_size
  )
  vectors = used.units.astype(np.float32)
  known = fingerprints.fingerprint(files)
  return Probes(
    vectors, files.labels[rows], files.class_names, fingerprint=known
  )


def distractors(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  path: str,
  left_out: refined.RefinedList,
) -> Distractors:
  """Distractors: a file of embeddings, or images; their names do not count.

  Raises:
    ValueError: if embeddings are those of another net, or all are left out.
  """
  kind = _Stored if embeddings.is_file(path) else _Embedded
  found = kind(model, options, path, left_out)
  if not found.kept.any():
    raise ValueError(f"all distractors in {path!r} are left out")
  return found


class _Stored:
  """Distractors in a file of embeddings."""

  fingerprint = ""

  def __init__(
    self,
    model: embedder.Embedder,
    options: protocols.ProtocolOptions,
    path: str,
    left_out: refined.RefinedList,
  ):
    del options
    self._stream = embedding_stream.EmbeddingStream(path)
    self.about = _check_net(model, self._stream.about, path)
    kept = [np.ones(len(self._stream), bool)]
    if len(left_out):
      kept = [_kept(paths, left_out) for paths in self._stream.paths(_ROWS)]
    self.kept = np.concatenate(kept)

  def blocks(self) -> Iterator[np.ndarray]:
    start = 0
    with progress.counting("compared", len(self._stream)) as advance:
      for block in self._stream.vectors(_ROWS):
        kept = self.kept[start : start + len(block)]
        start += len(block)
        if kept.any():
          yield block if kept.all() else block[kept]
        advance(len(block))


class _Embedded:
  """Distractors that are embedded as they are asked for."""

  about = ""

  def __init__(
    self,
    model: embedder.Embedder,
    options: protocols.ProtocolOptions,
    path: str,
    left_out: refined.RefinedList,
  ):
    self._model, self._files = model, image_sets.open_set(path, recursive=True)
    self._size = model.batch_size(options.batch_size)
    self.fingerprint = fingerprints.fingerprint(self._files)
    self.kept = _kept(_paths(self._files), left_out)

  def blocks(self) -> Iterator[np.ndarray]:
    source = self._model.decoded(self._files)
    rows = np.flatnonzero(self.kept).tolist()
    with progress.counting("embedded", len(rows)) as advance:
      for _, found in self._model.embedded(
        lambda index: source[index],
        rows,
        size=self._size,
        flip=True,
        name=source.name,
        advance=advance,
      ):
        yield found


def _paths(files: encoded.EncodedImages) -> Iterator[str]:
  return (image_sets.image_path(files, k) for k in range(len(files)))


def _rows(
  path: str,
  labels: np.ndarray,
  paths: Iterable[str],
  left_out: refined.RefinedList,
) -> np.ndarray:
  """Of the probes that take part."""
  rows = np.flatnonzero((labels >= 0) & _kept(paths, left_out))
  if not rows.size:
    raise ValueError(
      f"{path!r} has no probe whose person is known; give a folder with a folder"
      " a person, or a list or embeddings with names"
    )
  return rows


def _kept(paths: Iterable[str], left_out: refined.RefinedList) -> np.ndarray:
  return np.fromiter((not left_out.holds(path) for path in paths), bool)


def _check_net(
  model: embedder.Embedder, about: Mapping[str, Any], path: str
) -> str:
  """Refuses embeddings of another net; a warning where nothing is said."""
  if not about:
    return f"{path} does not say which net made its embeddings"
  mine = json.loads(json.dumps(model.about(flip=True)))
  gallery.check_same_net(dict(about), mine)
  return ""
