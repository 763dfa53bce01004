"""Overlap of a test set with a training set, by face: lists, and a result."""

import collections
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from facejax.data import encoded, fingerprints, image_sets
from facejax.evaluation import (
  features,
  overlap_by_face,
  overlap_lists,
  pair_results,
  protocols,
  thumbnails,
)
from facejax.runs import embedder, folder, results
from facejax.runtime import distributed, progress

_ROWS = 1 << 14


def searched(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  *,
  training: str,
  threshold: float | None = None,
  strangers: float = 0.5,
) -> results.Result:
  """Finds the people and the images that a test set shares with a training set.

  Args:
    model: the net, best one that was trained on neither.
    options: see there; `path` has the test set, a folder a person, or a list.
    training: the training set, likewise.
    threshold: the cosine of centres from which on two are one person; None
      chooses, see `overlap_by_face.bar`.
    strangers: how many may be expected to reach it.

  Raises:
    ValueError: if people are not told in one of the sets.
  """
  sets = [image_sets.open_set(path) for path in (options.path, training)]
  people = sets[0].num_classes, sets[1].num_classes
  overlap_by_face.check(*people, strangers)
  sources = [model.decoded(files) for files in sets]
  found, how = shared(
    model,
    sources,
    _blocks(model, options, sources[1]),
    batch_size=options.batch_size,
    threshold=threshold,
    strangers=strangers,
  )
  if distributed.primary():
    place = pathlib.Path(model.run, folder.REPORT)
    overlap_lists.write(place, options.name, found, sets)
  return results.Result(
    name=options.name,
    protocol="overlap",
    about=f"{len(sets[0]):,} images of {people[0]:,} tested people,"
    f" {len(sets[1]):,} of {people[1]:,} in the training set",
    quantities=_quantities(found, sets, how),
    warnings=_warnings(found),
    notes=[
      f"The lists are beside this result: {options.name}_people.csv, _images.csv,"
      " _seen.txt (for evaluate --seen) and _exclude.txt (for train"
      " --data.exclude)."
    ],
    curves=pair_results.histogram(
      found.near.cosines[:, [2, 0]].T.ravel(),
      np.repeat([False, True], len(found.near.people)),
      ("third nearest person: strangers", "nearest person"),
      threshold,
    ),
    exhibits=_exhibits(found, sources, options.hardest),
    step=model.step,
    data={
      "tested": options.path,
      "training set": training,
      "fingerprint of the tested images": fingerprints.fingerprint(sets[0]),
      "fingerprint of the training set": fingerprints.fingerprint(sets[1]),
    },
  )


def shared(
  model: embedder.Embedder,
  sources: Sequence[encoded.Decoded],
  trained: Iterable[overlap_by_face.Vectors],
  *,
  batch_size: int,
  threshold: float | None = None,
  strangers: float = 0.5,
) -> tuple[overlap_lists.Shared, str]:
  """What two sets share, and how people were found.

  Args:
    model: the net.
    sources: the test set and the training set.
    trained: the embeddings of the latter.
    batch_size: images at once, over all devices.
    threshold: see `searched`.
    strangers: see there.
  """
  tested = _tested(model, sources[0], batch_size)
  near = overlap_by_face.compared(
    tested,
    trained,
    (sources[0].num_classes, sources[1].num_classes),
    mesh=model.mesh,
  )
  with progress.counting("looked at", len(tested.rows)) as advance:
    copies = overlap_by_face.copies(
      near, sources[0].__getitem__, sources[1].__getitem__, advance=advance
    )
  by_face, how = _decided(near, sources[1].num_classes, threshold, strangers)
  labels = [np.asarray(source.labels) for source in sources]
  pairs = (
    (int(labels[0][mine]), int(labels[1][theirs]))
    for mine, theirs, *_ in copies
  )
  common = collections.Counter(pair for pair in pairs if min(pair) >= 0)
  return overlap_lists.Shared(near, copies, by_face, common), how


def _decided(
  near: overlap_by_face.Nearby,
  trained: int,
  threshold: float | None,
  strangers: float,
) -> tuple[np.ndarray, str]:
  """Who is found by face, and how."""
  if threshold is not None:
    return near.cosines[:, 0] >= threshold, f"at cosine {threshold:.4f}, given"
  bar = overlap_by_face.bar(near.deviations, trained, strangers)
  how = (
    f"{bar:.2f} standard deviations above the mean of each person's cosines with"
    f" all people there, which {strangers:g} strangers of all tested people are"
    " expected to reach"
  )
  return near.deviations[:, 0] >= bar, how


def _tested(
  model: embedder.Embedder, source: encoded.Decoded, batch_size: int
) -> overlap_by_face.Vectors:
  rows = np.arange(len(source))
  found = features.embedded(model, source, rows.tolist(), batch_size)
  return overlap_by_face.Vectors(
    rows, np.asarray(source.labels), found.units.astype(np.float32)
  )


def _blocks(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  source: encoded.Decoded,
) -> Iterator[overlap_by_face.Vectors]:
  """The training set as it is embedded, so many images at a time."""
  labels = np.asarray(source.labels)
  with progress.counting("embedded", len(source)) as advance:
    for start in range(0, len(source), _ROWS):
      rows = range(start, min(start + _ROWS, len(source)))
      parts = model.embedded(
        source.__getitem__,
        rows,
        size=model.batch_size(options.batch_size),
        flip=True,
        name=source.name,
        advance=advance,
      )
      kept, vectors = zip(*parts, strict=True)
      order = np.concatenate([np.asarray(part) for part in kept])
      yield overlap_by_face.Vectors(
        order, labels[order], np.concatenate(vectors)
      )


def _quantities(
  found: overlap_lists.Shared, sets: Sequence[encoded.EncodedImages], how: str
) -> list[results.Quantity]:
  people = {mine for mine, _ in found.people()}
  images = {mine for mine, *_ in found.copies}
  note = "counted, not estimated: no interval;"
  by_face = int(found.by_face.sum())
  return [
    results.Quantity(
      "people_in_training",
      "Tested people in the training set",
      len(people) / sets[0].num_classes,
      convention=f"{len(people):,} of {sets[0].num_classes:,}: {by_face:,} by"
      f" centres of embeddings, {how}, seen from the middle of the training set's"
      f" people; others by common images; {note}",
    ),
    results.Quantity(
      "images_in_training",
      "Tested images in the training set",
      len(images) / len(sets[0]),
      convention=f"{len(images):,} of {len(sets[0]):,}: of the"
      f" {overlap_by_face.NEIGHBOURS} nearest images one differs in at most"
      f" {overlap_by_face.COPY_BITS} of 256 bits of its hash; {note}",
    ),
  ]


def _warnings(found: overlap_lists.Shared) -> list[str]:
  count = len({mine for mine, _ in found.people()})
  if not count:
    return []
  return [
    f"{count:,} of the tested people are in the training set: figures of a net"
    " that was trained on it are not comparable with results on people never"
    " seen. evaluate --seen tells them apart."
  ]


def _exhibits(
  found: overlap_lists.Shared, sources: Sequence[encoded.Decoded], count: int
) -> list[results.Exhibit]:
  """The nearest people on both sides of the bar, each by their nearest images."""
  reads = [thumbnails.face(source) for source in sources]
  labels = np.asarray(sources[0].labels)
  best = found.near.image_cosines[:, 0]
  known = np.isin(np.arange(len(found.by_face)), [a for a, _ in found.people()])
  certain = found.near.deviations[:, 0]
  out = []
  for kind, title, sign in (
    (known, "Found in the training set, the least certain first", 1),
    (~known, "Not found, the most similar first", -1),
  ):
    chosen = np.flatnonzero(kind)
    chosen = chosen[np.argsort(sign * certain[chosen], kind="stable")][:count]
    comparisons = []
    for person in chosen.tolist():
      rows = np.flatnonzero(labels == person)
      if rows.size:
        row = int(rows[np.argmax(best[rows])])
        score = float(found.near.cosines[person, 0])
        theirs = int(found.near.images[row, 0])
        comparisons.append(
          results.Comparison(score, None, reads[0](row), reads[1](theirs))
        )
    caption = (
      f"{int(kind.sum()):,} tested people; the cosine of two centres, and the"
      " tested person's image with the nearest neighbour in the training set."
    )
    out.append(results.Exhibit(title, caption, comparisons))
  return out
