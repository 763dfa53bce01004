"""YuNet, run by OpenCV from a model file that the user names.

References:
  Wu, Peng, Yu. YuNet: A Tiny Millisecond-level Face Detector. 2023.
"""

import hashlib
import importlib
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from facejax.data.detectors import contract
from facejax.runtime import extras, file_kinds, text_lines

MIN_SCORE = 0.6
_MOST_OVERLAP = 0.3
_MOST_FACES = 5000
# It finds faces of some ten pixels up to most of an image of this side.
_SIDE = 640
_LEAST_FACE = 16


def digest(model: str | os.PathLike[str]) -> str:
  """Tells this model from others.

  Raises:
    FileNotFoundError: There is no such file.
    ValueError: It is certainly no ONNX model.
  """
  name = text_lines.printable(os.fspath(model))
  if not os.path.isfile(model):
    raise FileNotFoundError(f"there is no model of YuNet {name!r}")
  file_kinds.refuse(model, "a model of YuNet", ["onnx"])
  return hashlib.sha256(pathlib.Path(model).read_bytes()).hexdigest()[:16]


def build(
  model: str | os.PathLike[str],
  *,
  min_face: int | None = None,
  min_score: float | None = None,
) -> contract.Detector:
  """Loads the model.

  Args:
    model: The ONNX file, such as face_detection_yunet_2023mar.onnx.
    min_face: Side of the smallest faces, in pixels of the image. Images of more
      than 640 pixels are shrunk to that, or as far as leaves these faces 16
      pixels; the largest ones may then be missed.
    min_score: The lowest score of a face, 0 to 1; None takes 0.6.

  Returns:
    The detector, a function of a uint8 RGB image [height, width, 3].

  Raises:
    extras.MissingPackageError: OpenCV is not installed.
    FileNotFoundError: There is no such file.
    ValueError: It is no model of YuNet.
  """
  digest(model)
  extras.require("cv2")
  cv2: Any = importlib.import_module("cv2")
  # Errors alone: version 5 warns of each model.
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
  least = MIN_SCORE if min_score is None else min_score
  name = text_lines.printable(os.fspath(model))
  try:
    net = cv2.FaceDetectorYN.create(
      os.fspath(model), "", (_SIDE, _SIDE), least, _MOST_OVERLAP, _MOST_FACES
    )
  except cv2.error as error:
    raise ValueError(f"{name!r} is no model of YuNet: {error}") from None

  def detect(image: np.ndarray) -> contract.Faces:
    shrunk, enlarge = _shrunk(image, min_face)
    net.setInputSize((shrunk.shape[1], shrunk.shape[0]))
    try:
      _, rows = net.detect(np.ascontiguousarray(shrunk[..., ::-1]))
    except cv2.error as error:
      raise ValueError(f"{name!r} is no model of YuNet: {error}") from None
    if rows is None:
      return contract.nothing()
    return contract.checked(_faces(np.asarray(rows, float)).enlarged(enlarge))

  return detect


def _shrunk(
  image: np.ndarray, min_face: int | None
) -> tuple[np.ndarray, float]:
  """The image that the net sees, and how many times the given one is larger."""
  longest = max(image.shape[:2])
  scale = _SIDE / longest
  if min_face is not None:
    scale = max(scale, _LEAST_FACE / min_face)
  if scale >= 1.0:
    return image, 1.0
  size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
  picture = Image.fromarray(image).resize(size, Image.Resampling.BOX)
  return np.asarray(picture), 1.0 / scale


def _faces(rows: np.ndarray) -> contract.Faces:
  """From rows of x, y, width, height, five points and the score."""
  boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)
  return contract.Faces(boxes, rows[:, 14], rows[:, 4:14].reshape(-1, 5, 2))
