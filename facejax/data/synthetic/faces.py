"""Faces of people who do not exist: a data set that needs no download.

A parametric model of the face, drawn with numpy alone. A person is some seventy
numbers (shape, spacing, colours), a photograph some forty (pose, light,
expression, clutter); `synthetic_traits` lists them. In pixels, two photographs
of one person are nearly as far apart as those of two people, so that a net has
to see faces; and any number of people is at hand, always the same ones.
"""

import operator
import types
import typing
from collections.abc import Sequence

import numpy as np

from facejax.data.synthetic import face as synthetic_face
from facejax.data.synthetic import scene as synthetic_scene
from facejax.data.synthetic import shape, traits

_KEYS = 2**64  # Philox counts people and seeds in 64 bits
_MAX_IMAGES = 2**31 - 1
_MIN_SIDE, _MAX_SIDE = 16, 1024


class SyntheticFaces:
  """Drawn faces in random access; a `sources.Source`.

  Image i shows photograph i % images_per_identity of person
  first_identity + i // images_per_identity. It depends on (seed, person,
  photograph, image_size) and on nothing else, and shows the same scene at any
  size: another number of people or of images, or another order of access,
  gives the same pictures. Ranges of people that do not overlap make disjoint
  sets for training and for evaluation.

  >>> faces = SyntheticFaces(num_identities=10, images_per_identity=4)
  >>> len(faces), faces[5].shape, int(faces.labels[5]), faces.name(5)
  (40, (64, 64, 3), 1, 'synthetic/000001/0001')
  """

  def __init__(
    self,
    *,
    num_identities: int,
    images_per_identity: int,
    first_identity: int = 0,
    seed: int = 0,
    image_size: tuple[int, int] = (64, 64),
  ):
    """Names the people; nothing is drawn yet.

    Args:
      num_identities: How many people, at least 1.
      images_per_identity: Photographs of each, at least 1, and fewer
        than 2**31 of all.
      first_identity: The first person's number; the last one's must stay
        below 2**64.
      seed: Another seed, in [0, 2**64), gives other people.
      image_size: Height and width in pixels, each in 16..1024.

    Raises:
      ValueError: An argument is no integer or out of its range.
    """
    self._people = _integer("num_identities", num_identities, 1, _MAX_IMAGES)
    self._each = _integer(
      "images_per_identity",
      images_per_identity,
      1,
      _MAX_IMAGES // self._people,
    )
    self._first = _integer(
      "first_identity", first_identity, 0, _KEYS - self._people
    )
    self._seed = _integer("seed", seed, 0, _KEYS - 1)
    try:
      height, width = image_size
    except (TypeError, ValueError):
      raise ValueError(
        f"image_size={image_size!r} must be (height, width) in pixels"
      ) from None
    self._size = (
      _integer("image height", height, _MIN_SIDE, _MAX_SIDE),
      _integer("image width", width, _MIN_SIDE, _MAX_SIDE),
    )
    people = np.arange(self._people, dtype=np.int32)
    self.labels = people.repeat(self._each)
    self.class_names: Sequence[str] = _Names(self._first, self._people)

  @property
  def num_classes(self) -> int:
    return self._people

  def __len__(self) -> int:
    return self._people * self._each

  def __getitem__(self, index: int) -> np.ndarray:
    """Draws an image, uint8 RGB [height, width, 3]."""
    person, photo = self._parts(index)
    person += self._first
    face = traits.person(self._seed, person)
    rng = traits.stream(self._seed, person, 1 + photo)
    return _draw(face, rng, *self._size)

  def name(self, index: int) -> str:
    person, photo = self._parts(index)
    return f"synthetic/{self.class_names[person]}/{photo:04d}"

  def _parts(self, index: int) -> tuple[int, int]:
    if not 0 <= index < len(self):
      raise IndexError(f"image {index} of {len(self)}")
    return divmod(operator.index(index), self._each)


class _Names(Sequence[str]):
  """The people's numbers, written when asked for: millions cost nothing."""

  def __init__(self, first: int, count: int):
    self._numbers = range(first, first + count)

  def __len__(self) -> int:
    return len(self._numbers)

  @typing.overload
  def __getitem__(self, index: int) -> str: ...

  @typing.overload
  def __getitem__(self, index: slice) -> Sequence[str]: ...

  def __getitem__(self, index: int | slice) -> str | Sequence[str]:
    if isinstance(index, slice):
      return [f"{number:06d}" for number in self._numbers[index]]
    return f"{self._numbers[index]:06d}"


def _draw(
  face: types.SimpleNamespace,
  rng: np.random.Generator,
  height: int,
  width: int,
) -> np.ndarray:
  """Takes one photograph of a person: the layers, from back to front."""
  view = traits.conditions(rng)
  scene = synthetic_scene.backdrop(rng, height, width)
  at = shape.surface(face, view, height, width)
  relief, dark, red = shape.relief(face, view, at)
  rgb = np.empty((3, height, width), np.float32)
  cover = synthetic_scene.bust(rgb, at, face, view)
  synthetic_face.skin(rgb, at, face, dark, red)
  synthetic_face.beard(rgb, at, face, view)
  rows, part = at.band(face.nose_y + face.mouth_gap, 0.45)
  synthetic_face.nostrils(rgb[:, rows], part, face, view)
  synthetic_face.mouth(rgb[:, rows], part, face, view)
  rows, part = at.band(face.eye_y - 0.5 * face.brow_gap, 0.35)
  synthetic_face.eyes(rgb[:, rows], part, face, view)
  synthetic_face.brows(rgb[:, rows], part, face, view)
  synthetic_face.hair(rgb, at, face, view)
  synthetic_scene.hat(rgb, at, view)
  ears = synthetic_face.ears(rgb, at, face)
  synthetic_face.glasses(rgb, at, face, view)

  diffuse, glint = shape.shade(view, at, relief)
  rgb *= diffuse
  rgb += glint * at.head * view.shine
  cover = np.maximum(np.maximum(cover, at.head), ears)
  synthetic_face.paint(rgb, 1.0 - cover, scene)
  synthetic_scene.clutter(rgb, at, view)
  return synthetic_scene.photograph(rgb, view, rng)


def _integer(name: str, value: int, low: int, high: int) -> int:
  try:
    number = operator.index(value)
  except TypeError:
    number = None
  if number is None or not low <= number <= high:
    raise ValueError(f"{name}={value!r} must be an integer in {low}..{high}")
  return number
