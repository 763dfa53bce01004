"""The card of a net: all that must be known to embed an image as it was meant.

It lies as model.json beside the weights. A training run writes its own; so does
whoever brings weights from elsewhere. The weights are the checkpoint in the
same folder, `checkpoints/STEP`, with leaves `.params[…]` and `.stats[…]`.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from facejax.data import orientation
from facejax.data.aligning import landmarks
from facejax.runs import folder, thresholds
from facejax.runtime import json_files

# Apart from these, what a card says is free text.
_CHOICES = {
  "norm": ("batch", "lrn"),
  "dtype": ("float32", "bfloat16", "float64"),
  "colors": ("RGB", "BGR"),
  "exif": get_args(orientation.Exif),
  "template": get_args(landmarks.Template),
}
_PIXELS = 127.5
# What `trained_on` says of runs on the synthetic source.
GENERATED = "generated faces"


@dataclasses.dataclass(frozen=True)
class Card:
  """What is stored with the weights.

  Attributes:
    net: name of the net, of `facejax.models.functional.NETS`.
    embedding_dim: size of the embeddings.
    image_size: height and width of the images that it takes.
    crop: share of each side of an image, about its centre, that is used.
    exif: whether images are turned as their EXIF says ("apply"), or left as
      they are stored ("ignore").
    template: where the points of a face lie in its images ("arcface", "dlib").
    norm: "batch", or "lrn" for nets of FaceNet with response normalisation.
    se: whether the net has squeeze-and-excitation in its blocks.
    dtype: arithmetic of the trunk: "float32", "bfloat16" or "float64".
    lora: rank of the adapters that lie beside the net's kernels in its
      checkpoints and are merged when it is read; 0 for none.
    lora_alpha: how much they count, see `facejax.models.lora`.
    averaged: whether an average of the weights is kept, and to be used.
    colors: order of the channels, "RGB" or "BGR".
    pixel_mean: pixels enter as (x - pixel_mean) / pixel_scale.
    pixel_scale: see there.
    trained_on: what data, in words.
    images: how many images it was trained on, if known.
    identities: of how many people.
    loss: the loss and its settings, in words.
    source: where the weights come from, if not trained here.
    versions: of facejax and what else had a part in it.
    threshold: from which cosine on two images show one person, and what is
      known of that; None where no pairs were verified, and in cards of before.
  """

  net: str
  embedding_dim: int
  image_size: tuple[int, int]
  crop: float = 1.0
  exif: orientation.Exif = "apply"
  template: landmarks.Template = "arcface"
  norm: str = "batch"
  se: bool = False
  dtype: str = "float32"
  lora: int = 0
  lora_alpha: float = 16.0
  averaged: bool = False
  colors: str = "RGB"
  pixel_mean: float = _PIXELS
  pixel_scale: float = _PIXELS
  trained_on: str = ""
  images: int | None = None
  identities: int | None = None
  loss: str = ""
  source: str = ""
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  threshold: thresholds.Threshold | None = None

  def __post_init__(self):
    for name, choices in _CHOICES.items():
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(
          f"{name}={value!r}: choose one of {', '.join(choices)}"
        )
    size = tuple(self.image_size)
    if len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
      raise ValueError(
        f"image_size={self.image_size!r} must be (height, width) in pixels"
      )
    object.__setattr__(self, "image_size", size)
    if type(self.embedding_dim) is not int or self.embedding_dim < 1:
      raise ValueError(
        f"embedding_dim={self.embedding_dim!r} must be a positive integer"
      )
    if not (isinstance(self.crop, int | float) and 0 < self.crop <= 1):
      raise ValueError(f"crop={self.crop!r} must lie in (0, 1]")
    for name in ("pixel_mean", "pixel_scale"):
      value = getattr(self, name)
      if not (isinstance(value, int | float) and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be a finite number")
    if self.pixel_scale <= 0:
      raise ValueError(f"pixel_scale={self.pixel_scale!r} must be above 0")

  @property
  def generated(self) -> bool:
    """Whether it has seen no person, only generated faces."""
    return self.trained_on == GENERATED

  @property
  def pixels(self) -> str:
    """How pixels enter, in words.

    >>> Card("iresnet18", 512, (112, 112)).pixels
    '(x - 127.5) / 127.5'
    """
    return f"(x - {self.pixel_mean:g}) / {self.pixel_scale:g}"


def read(run: str | os.PathLike[str]) -> Card:
  """The card of a run's folder; of older runs it follows from config.json.

  Raises:
    FileNotFoundError: if it is no folder of a run.
    ValueError: if the card is damaged or says what no net here can do.
  """
  path = pathlib.Path(run, folder.CARD)
  if path.exists():
    return _explained(path, lambda: _of_mapping(json_files.read(path)))
  config = folder.read_config(run)
  if config is not None:
    return _explained(
      pathlib.Path(run, folder.CONFIG), lambda: from_config(config)
    )
  raise FileNotFoundError(
    f"{os.fspath(run)!r} is not the folder of a trained net: it has neither"
    f" {folder.CARD} nor {folder.CONFIG}"
  )


def write(run: str | os.PathLike[str], card: Card) -> pathlib.Path:
  """Writes model.json, whole or not at all; the folder must exist."""
  path = pathlib.Path(run, folder.CARD)
  json_files.write(path, dataclasses.asdict(card))
  return path


def keep_threshold(
  run: str | os.PathLike[str], kept: thresholds.Threshold
) -> pathlib.Path:
  """Keeps a threshold in the card of a run, in place of that which is there.

  Raises:
    FileNotFoundError, ValueError: as `read`.
  """
  return write(run, dataclasses.replace(read(run), threshold=kept))


def net_of(card: Card) -> dict[str, Any]:
  """The card as a mapping, without the threshold: what embeddings are of."""
  found = dataclasses.asdict(card)
  del found["threshold"]
  return found


def of_text(text: str) -> Card:
  """The card that was kept inside of another file, as `to_text` wrote it.

  Raises:
    ValueError: if it is damaged or says what no net here can do.
  """
  return _explained("its card", lambda: _of_mapping(json.loads(text)))


def to_text(card: Card) -> str:
  """The card as JSON, to be kept inside of another file."""
  return json.dumps(dataclasses.asdict(card))


def from_config(
  config: Mapping[str, Any],
  *,
  images: int | None = None,
  identities: int | None = None,
  versions: Mapping[str, str] | None = None,
) -> Card:
  """The card of a training run.

  Args:
    config: the configuration by dotted names, as in config.json.
    images: how many images the run trains on.
    identities: of how many people.
    versions: of the software.
  """
  return Card(
    net=config["model.name"],
    embedding_dim=config["model.embedding_dim"],
    image_size=tuple(config["data.image_size"]),
    crop=config["data.crop"],
    exif=config.get("data.exif", "apply"),
    norm=config.get("model.norm", "batch"),
    se=config.get("model.se", False),
    dtype=config["model.dtype"],
    lora=config.get("model.lora", 0),
    lora_alpha=config.get("model.lora_alpha", 16.0),
    averaged=_averages(config),
    trained_on=_data(config),
    images=images,
    identities=identities,
    loss=_loss(config["loss.name"], config),
    versions=dict(versions or {}),
  )


def _of_mapping(found: dict[str, Any]) -> Card:
  kept = found.pop("threshold", None)
  return Card(**found, threshold=kept and thresholds.of_mapping(kept))


def _averages(config: Mapping[str, Any]) -> bool:
  """Whether a mean of the weights is kept, by whichever optimizer."""
  by_name = config.get("optim.name") == "schedule_free"
  return by_name or bool(config.get("optim.ema"))


def _data(config: Mapping[str, Any]) -> str:
  source = config["data.source"]
  if source == "synthetic":
    return GENERATED
  places = [config["data.path"], *config.get("data.join", ())]
  words = " and ".join(places) + f" ({source})"
  if config.get("data.identities"):
    words += f", people of {config['data.identities']}"
  if config.get("data.exclude"):
    words += f", without what is listed in {config['data.exclude']}"
  for name in ("merge", "relabel"):
    if config.get(f"data.{name}"):
      words += f", labels corrected by {config[f'data.{name}']}"
  if config.get("eval.hold_out"):
    words += f", a share of {config['eval.hold_out']:g} of the people held out"
  return words


def _loss(name: str, config: Mapping[str, Any]) -> str:
  settings = [
    f"{key.removeprefix('loss.')}={value}"
    for key, value in config.items()
    if key.startswith("loss.") and key != "loss.name"
  ]
  return f"{name}({', '.join(settings)})"


def _explained(where: Any, make: Callable[[], Card]) -> Card:
  try:
    return make()
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    raise ValueError(f"{where} cannot be used: {reason}") from None
