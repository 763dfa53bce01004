"""What a report shows of images: the hardest pairs, and a map of people."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from facejax.data import sources
from facejax.runs import results
from facejax.runtime import text_lines

_SIDE = 96
_QUALITY = 82
# People on the map, and images of each: more would not be told apart.
_PEOPLE, _IMAGES = 8, 60

Read = Callable[[int], results.Thumbnail]


def face(source: sources.Source) -> Read:
  """A function that makes thumbnails of the images of a source."""

  def read(index: int) -> results.Thumbnail:
    name = text_lines.printable(source.name(index))
    return results.Thumbnail(name, data_uri(np.asarray(source[index])))

  return read


def data_uri(image: np.ndarray) -> str:
  """An image, uint8 [height, width, 3], as JPEG within a URI."""
  picture = Image.fromarray(image)
  picture.thumbnail((_SIDE, _SIDE))
  out = io.BytesIO()
  picture.save(out, "JPEG", quality=_QUALITY)
  return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def hardest_pairs(
  read: Read,
  first: np.ndarray,
  second: np.ndarray,
  scores: np.ndarray,
  same: np.ndarray,
  *,
  accepted: np.ndarray,
  count: int,
) -> list[results.Exhibit]:
  """Impostor pairs with the highest scores and genuine ones with the lowest.

  Args:
    read: makes a thumbnail of an image.
    first: the image of each pair, int [pairs].
    second: the other one.
    scores: cosines, [pairs].
    same: whether a pair is genuine, bool [pairs].
    accepted: whether it was taken for one, bool [pairs].
    count: how many of each kind at most.
  """
  exhibits = []
  for kind, sign, title, error in (
    (~same, -1, "Hardest impostor pairs", "falsely accepted"),
    (same, 1, "Hardest genuine pairs", "falsely rejected"),
  ):
    wrong = kind & (accepted != same)
    chosen = np.flatnonzero(kind)
    chosen = chosen[np.argsort(sign * scores[chosen], kind="stable")][:count]
    people = "two people" if sign < 0 else "one person"
    caption = (
      f"Pairs of {people} with the {'highest' if sign < 0 else 'lowest'}"
      f" cosines; {wrong.sum():,} of {kind.sum():,} are {error}."
    )
    comparisons = [
      results.Comparison(
        float(scores[k]),
        bool(wrong[k]),
        read(int(first[k])),
        read(int(second[k])),
      )
      for k in chosen
    ]
    exhibits.append(results.Exhibit(title, caption, comparisons))
  return exhibits


def people_map(
  vectors: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> dict[str, Any] | None:
  """Embeddings of the people with the most images, in their main plane.

  The plane is that of the two largest principal components of these very
  embeddings. None if there are no two people with three images each.

  Args:
    vectors: of length 1, [images, dim].
    labels: the person of each, int [images].
    names: of the people.

  Returns:
    x, y [shown], person [shown], names [people] and `explained`, the share of
    the variance that each axis holds.
  """
  people, counts = np.unique(labels[labels >= 0], return_counts=True)
  many = np.argsort(-counts, kind="stable")[:_PEOPLE]
  many = many[counts[many] >= 3]
  if len(many) < 2:
    return None
  rows = [np.flatnonzero(labels == person)[:_IMAGES] for person in people[many]]
  x = vectors[np.concatenate(rows)].astype(np.float64)
  x -= x.mean(axis=0)
  _, lengths, axes = np.linalg.svd(x, full_matrices=False)
  # Signs are arbitrary: the largest entry of each axis is made positive.
  axes = axes[:2]
  largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
  places = x @ (axes * np.sign(largest)).T
  return {
    "x": np.round(places[:, 0], 4),
    "y": np.round(places[:, -1], 4),
    "person": np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
    "names": [
      text_lines.printable(str(names[person])) for person in people[many]
    ],
    "explained": np.round(lengths[:2] ** 2 / (lengths**2).sum(), 4),
  }
