"""Alignment of faces by five points: both eyes, the nose, the mouth's corners.

Coordinates are (x, y) in pixels, from the centre of the upper left pixel, in
the order left eye, right eye, nose, left and right corner of the mouth, where
left is the smaller x of an upright face.
"""

from typing import Literal, TypeAlias

import numpy as np
from PIL import Image

from facejax.data.detectors import contract

# Where the points lie: ArcFace's and CosFace's faces, or the chips of dlib's net,
# which show more of the head.
Template: TypeAlias = Literal["arcface", "dlib"]
_TEMPLATE = np.asarray(
  [
    [38.2946, 51.6963],
    [73.5318, 51.5014],
    [56.0252, 71.7366],
    [41.5493, 92.3655],
    [70.7299, 92.2041],
  ]
)
# Of the mean face of dlib's 68 points: the middle of each eye, the tip of the
# nose and the mouth's corners, with a quarter of its size left on all sides.
_DLIB = np.asarray(
  [
    [47.5492, 46.5990],
    [100.4761, 46.5990],
    [74.0127, 76.5625],
    [50.4149, 103.0233],
    [97.6104, 103.0233],
  ]
)
_MAX_SIDE = 4096


class LandmarkError(ValueError):
  """Landmarks that no face can have; the message says why."""


def size_of(kind: Template) -> tuple[int, int]:
  """Height and width that faces of a template are usually made in."""
  return (112, 112) if kind == "arcface" else (150, 150)


def template(
  image_size: tuple[int, int] = (112, 112), kind: Template = "arcface"
) -> np.ndarray:
  """Returns where the five points lie in an aligned face.

  Args:
    image_size: Height and width: a square, the 112 x 112 of ArcFace or larger
      or smaller, or the 112 x 96 of SphereFace and CosFace, or another size of
      that shape; of dlib's a square.
    kind: "arcface", or "dlib" for dlib's net.

  Returns:
    float64 [5, 2], in pixels.

  Raises:
    ValueError: There is no template of this shape.

  References:
    Liu, Wen, Yu, Li, Raj, Song. SphereFace: Deep Hypersphere Embedding for Face
    Recognition. 2017.
    Deng, Guo, Xue, Zafeiriou. ArcFace: Additive Angular Margin Loss for Deep
    Face Recognition. 2019.
    King. Dlib-ml: A Machine Learning Toolkit. 2009 (get_face_chip_details with
    150 pixels and a padding of 0.25).

  >>> template((112, 96))[0].round(4).tolist()
  [30.2946, 51.6963]
  """
  height, width = image_size
  square, narrow = height == width, 96 * height == 112 * width
  if kind == "dlib" and not (square and 1 <= height <= _MAX_SIDE):
    raise ValueError(
      f"image_size={height} x {width} (height x width): faces of dlib's template"
      f" are squares of at most {_MAX_SIDE} pixels"
    )
  if kind == "dlib":
    return (_DLIB + 0.5) * (height / 150) - 0.5
  if not 1 <= height <= _MAX_SIDE or not (square or narrow):
    raise ValueError(
      f"image_size={height} x {width} (height x width) has no template: it must"
      f" be a square or shaped like 112 x 96, of at most {_MAX_SIDE} pixels"
    )
  points = _TEMPLATE - (0.0 if square else np.asarray([8.0, 0.0]))
  # Pixels scale about the corner of the image, half a pixel from the origin.
  return (points + 0.5) * (height / 112) - 0.5


def similarity_transform(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
  """Returns the rotation, scale and shift that map points best onto others.

  With points as complex numbers, centred: w = a z, where
  a = sum(conj(z) w) / sum(|z|^2) minimizes sum(|a z - w|^2). In the plane this
  is Umeyama's solution without reflection.

  Args:
    src: [n, 2], at least two points.
    dst: [n, 2], where each should come to lie.

  Returns:
    float64 [2, 3], the matrix that maps (x, y, 1).

  Raises:
    LandmarkError: A number is not finite, or the points lie in one place.

  References:
    Umeyama. Least-Squares Estimation of Transformation Parameters Between Two
    Point Patterns. 1991.

  >>> src = np.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
  >>> (similarity_transform(src, 3 * src + [5, 7]).round(9) + 0.0).tolist()
  [[3.0, 0.0, 5.0], [0.0, 3.0, 7.0]]
  """
  src, dst = np.asarray(src, float), np.asarray(dst, float)
  if src.shape != dst.shape or src.ndim != 2 or src.shape[1] != 2:
    raise ValueError(
      f"points must be two arrays [n, 2], got {src.shape} and {dst.shape}"
    )
  if not (np.isfinite(src).all() and np.isfinite(dst).all()):
    raise LandmarkError("a coordinate is not a finite number")
  src_mean, dst_mean = src.mean(0), dst.mean(0)
  z, w = ((p - p.mean(0)) @ (1, 1j) for p in (src, dst))
  spread = np.vdot(z, z).real
  a = np.vdot(z, w) / spread if spread else 0.0
  if not np.isfinite(a) or abs(a) < 1e-9:
    raise LandmarkError(
      f"the points lie in one place, about ({src_mean[0]:.1f},"
      f" {src_mean[1]:.1f}), or have nothing in common with where they should"
    )
  linear = np.asarray([[a.real, -a.imag], [a.imag, a.real]])
  return np.column_stack([linear, dst_mean - linear @ src_mean])


def check_landmarks(
  landmarks: np.ndarray, image_shape: tuple[int, ...]
) -> np.ndarray:
  """Returns five points as float64, if they can be those of a face.

  Args:
    landmarks: [5, 2].
    image_shape: Height and width of the image, and what may follow.

  Raises:
    LandmarkError: They are not finite, lie within a pixel of each other, or
      outside of the image, or left and right are exchanged.
  """
  points = np.asarray(landmarks, float)
  if points.shape != (5, 2):
    raise LandmarkError(f"expected five points (x, y), got {points.shape}")
  if not np.isfinite(points).all():
    raise LandmarkError("a coordinate is not a finite number")
  size = np.asarray([image_shape[1], image_shape[0]])
  middle = points.mean(0)
  # Corners of the mouth may be cut off; a face may not.
  outside = (middle < -0.5) | (middle > size - 0.5)
  far = (points < -0.5 - size / 2) | (points > 1.5 * size - 0.5)
  if outside.any() or far.any():
    raise LandmarkError(
      f"points about ({middle[0]:.0f}, {middle[1]:.0f}) lie outside of the image"
      f" of {size[0]} x {size[1]} pixels; are they of another size of it?"
    )
  centred = points - middle
  if np.square(centred).sum(1).mean() < 1.0:
    raise LandmarkError(
      f"the points lie within a pixel of ({middle[0]:.1f}, {middle[1]:.1f})"
    )
  wanted = _TEMPLATE - _TEMPLATE.mean(0)
  z, w = centred @ (1, 1j), wanted @ (1, 1j)
  if abs(np.vdot(z, w)) < abs(np.dot(z, w)):
    raise LandmarkError(
      "a mirrored face fits them better: left and right are exchanged"
    )
  return points


def warp(
  image: np.ndarray, matrix: np.ndarray, *, image_size: tuple[int, int]
) -> np.ndarray:
  """Draws an image mapped by an affine matrix, with bilinear interpolation.

  What lies outside of the image is black. Pillow's transform would cut off the
  fraction of each value and darken the image by half a grey level.

  Args:
    image: uint8 [height, width, channels].
    matrix: [2, 3], from (x, y, 1) of the image to (x, y) of the result.
    image_size: Height and width of the result.

  Returns:
    uint8 [*image_size, channels], rounded to nearest.
  """
  height, width = image.shape[:2]
  inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))
  grid = np.indices(image_size, dtype=float)[::-1]
  x, y = np.tensordot(inverse[:2, :2], grid, 1) + inverse[:2, 2, None, None]
  # With a frame of black, all neighbours exist.
  framed = np.pad(image, ((1, 2), (1, 2), (0, 0)))
  column, to_right = _split(x, width)
  row, to_lower = _split(y, height)
  pixels = framed.reshape(-1, framed.shape[2])
  place = row * framed.shape[1] + column

  def between(place: np.ndarray) -> np.ndarray:
    drawn = pixels.take(place, 0).astype(np.float32)
    drawn += (pixels.take(place + 1, 0) - drawn) * to_right
    return drawn

  drawn = between(place)
  drawn += (between(place + framed.shape[1]) - drawn) * to_lower
  return np.rint(drawn).astype(np.uint8)


def _split(place: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pixel before each place, in the frame, and the way past it."""
  place = np.clip(place, -1, size) + 1
  before = place.astype(np.intp)
  return before, (place - before).astype(np.float32)[..., None]


def align(
  image: np.ndarray,
  landmarks: np.ndarray,
  *,
  image_size: tuple[int, int] = (112, 112),
  kind: Template = "arcface",
  antialias: bool = True,
) -> np.ndarray:
  """Cuts out a face so that its five points lie where those of all others do.

  Args:
    image: uint8 RGB [height, width, 3].
    landmarks: [5, 2], the points in the image.
    image_size: Height and width of the result; see `template`.
    kind: Which template.
    antialias: Whether a face of more than twice the size is first shrunk by a
      whole factor, each pixel the mean of those it covers. Without it most of
      its pixels would not count, as in the published data sets.

  Returns:
    uint8 RGB [*image_size, 3].

  Raises:
    LandmarkError: The points cannot be those of a face in the image.
    ValueError: There is no template of this size.
  """
  points = check_landmarks(landmarks, image.shape)
  wanted = template(image_size, kind)
  matrix = similarity_transform(points, wanted)
  shrink = int(1.0 / np.hypot(*matrix[0, :2]))
  if antialias and shrink > 1:
    image = np.asarray(Image.fromarray(image).reduce(shrink))
    matrix = similarity_transform(contract.enlarged(points, 1 / shrink), wanted)
  return warp(image, matrix, image_size=image_size)
