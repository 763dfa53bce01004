"""The typed configuration of a run. Recipes return one; every field is a flag.

Nothing but the command lines reads these classes: all that lies below takes
explicit arguments. `validate` is where ranges live.
"""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Training images and how they are varied."""

  source: Literal["synthetic", "folder"] = "synthetic"
  """synthetic: generated faces; folder: PATH/identity/image.jpg."""
  path: str = ""
  """Folder of identity folders (source folder only)."""
  identities: str = ""
  """File that picks identities of the folder: one name a line, or an LFW
  people file. Empty takes all."""
  min_images: int = 1
  """Identities with fewer images are left out."""
  image_size: tuple[int, int] = (112, 112)
  """Height and width that images are resized to."""
  crop: float = 1.0
  """Share of each side of the image, about its centre, that is used."""
  num_identities: int = 500
  """Identities of the synthetic set."""
  images_per_identity: int = 20
  """Images of each identity of the synthetic set."""
  flip: bool = True
  """Mirror every other image at random."""
  shift: int = 0
  """Random shift by up to this many pixels, up, down, left and right."""
  zoom: float = 0.0
  """Random zoom by a factor between 1 - zoom and 1 + zoom."""
  rotate: float = 0.0
  """Random rotation by up to this many degrees."""
  brightness: float = 0.0
  """Random brightness, as a share of the full range."""
  contrast: float = 0.0
  """Random contrast factor between 1 - contrast and 1 + contrast."""
  erase: float = 0.0
  """Probability of a random grey rectangle over the image."""
  cache: bool = False
  """Keep decoded images in memory, for sets that are slow to make or read."""
  threads: int = 2
  """Threads that read and decode."""
  workers: int = 0
  """Processes that read and decode; 0 uses threads alone."""
  max_bad_share: float = 0.01
  """The run stops when more than this share of the images is unreadable."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The backbone."""

  name: Literal[
    "iresnet10_slim",
    "iresnet18",
    "iresnet34",
    "iresnet50",
    "iresnet100",
    "iresnet200",
  ] = "iresnet50"
  """The net."""
  embedding_dim: int = 512
  """Size of the embeddings."""
  dropout: float = 0.0
  """Dropout rate before the last linear layer."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """Arithmetic of the trunk; statistics and embeddings stay float32."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
  """The margin softmax loss."""

  name: Literal["cosface", "arcface", "nsl"] = "cosface"
  """cosface: s (cos - m); arcface: s cos(theta + m); nsl: no margin."""
  scale: float = 64.0
  """s, the length that embeddings are given."""
  margin: float = 0.35
  """m: a difference of cosines (cosface) or an angle in radians (arcface)."""
  guard: Literal["fallback", "easy", "none", "clip"] = "fallback"
  """What arcface does where theta + m exceeds pi."""
  gradient: Literal["exact", "detached"] = "exact"
  """detached: arcface's value with the gradient of the plain cosine."""


@dataclasses.dataclass(frozen=True)
class HeadConfig:
  """The classification head."""

  implementation: Literal["sharded", "dense"] = "sharded"
  """sharded: classes split over the devices; dense: the specification."""


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """SGD and its learning-rate schedule.

  Warm-up and milestones are shares of the run, so that a run made longer or
  shorter keeps the shape of its schedule.
  """

  learning_rate: float = 0.1
  """Learning rate after the warm-up."""
  momentum: float = 0.9
  """Momentum."""
  nesterov: bool = False
  """Nesterov's form of the momentum."""
  weight_decay: float = 5e-4
  """Coupled weight decay (L2), on all weights."""
  clip_norm: float = 5.0
  """Bound of the global norm of the trunk's gradient; 0 for none."""
  schedule: Literal["constant", "linear", "step", "polynomial", "cosine"] = (
    "linear"
  )
  """Shape of the learning rate after the warm-up."""
  warmup: float = 0.0
  """Share of the run that the linear warm-up takes."""
  milestones: tuple[float, ...] = ()
  """Shares of the run after which the step schedule multiplies by
  decay_factor."""
  decay_factor: float = 0.1
  """Factor of the step schedule."""
  power: float = 2.0
  """Exponent of the polynomial schedule."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The devices."""

  devices: int | None = None
  """How many devices to use; all if not given."""
  model: int | None = None
  """Devices that classes are split over; all if not given."""


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """Verification on pairs of people who were not trained on."""

  pairs: str = ""
  """LFW pairs file. Empty: generated pairs of unseen identities (source
  synthetic), or no verification (source folder)."""
  path: str = ""
  """Folder of the pairs' images; data.path if empty."""
  threshold_pairs: str = ""
  """A second pairs file, whose best threshold is applied to `pairs`."""
  num_pairs: int = 2000
  """Number of generated pairs."""
  every: int = 0
  """Steps between verifications while training; 0 only at the end."""
  batch_size: int = 128
  """Images embedded at once."""


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """What is saved for resuming."""

  every: int = 1000
  """Steps between checkpoints."""
  keep: int = 2
  """How many of the newest are kept."""
  keep_best: int = 1
  """How many of the best by verification accuracy are kept as well."""


@dataclasses.dataclass(frozen=True)
class Config:
  """A training run."""

  name: str = "run"
  """Name of the recipe."""
  workdir: str = ""
  """Folder of the run; runs/NAME if empty. The same command again resumes."""
  seed: int = 0
  """Seed of everything random."""
  steps: int | None = None
  """Length of the run in steps; give this or epochs."""
  epochs: float | None = None
  """Length of the run in passes over the images."""
  batch_size: int = 128
  """Images a step, over all devices."""
  log_every: int = 20
  """Steps between log lines."""
  data: DataConfig = DataConfig()
  model: ModelConfig = ModelConfig()
  loss: LossConfig = LossConfig()
  head: HeadConfig = HeadConfig()
  optim: OptimConfig = OptimConfig()
  mesh: MeshConfig = MeshConfig()
  eval: EvalConfig = EvalConfig()
  checkpoint: CheckpointConfig = CheckpointConfig()


# Field -> (lowest, highest, whether the bounds themselves are excluded).
_INF = float("inf")
_RANGES: dict[str, tuple[float, float, str]] = {
  "seed": (0, 2**32 - 1, "[]"),
  "steps": (1, _INF, "[)"),
  "epochs": (0, _INF, "()"),
  "batch_size": (1, _INF, "[)"),
  "log_every": (1, _INF, "[)"),
  "data.min_images": (1, _INF, "[)"),
  "data.crop": (0, 1, "(]"),
  "data.num_identities": (2, _INF, "[)"),
  "data.images_per_identity": (2, _INF, "[)"),
  "data.shift": (0, _INF, "[)"),
  "data.zoom": (0, 1, "[)"),
  "data.rotate": (0, 180, "[]"),
  "data.brightness": (0, 1, "[]"),
  "data.contrast": (0, 1, "[]"),
  "data.erase": (0, 1, "[]"),
  "data.threads": (1, _INF, "[)"),
  "data.workers": (0, _INF, "[)"),
  "data.max_bad_share": (0, 1, "[]"),
  "model.embedding_dim": (1, _INF, "[)"),
  "model.dropout": (0, 1, "[)"),
  "loss.scale": (0, _INF, "()"),
  "optim.learning_rate": (0, _INF, "()"),
  "optim.momentum": (0, 1, "[)"),
  "optim.weight_decay": (0, _INF, "[)"),
  "optim.clip_norm": (0, _INF, "[)"),
  "optim.warmup": (0, 1, "[)"),
  "optim.decay_factor": (0, 1, "()"),
  "optim.power": (0, _INF, "()"),
  "mesh.devices": (1, _INF, "[)"),
  "mesh.model": (1, _INF, "[)"),
  "eval.num_pairs": (20, _INF, "[)"),
  "eval.every": (0, _INF, "[)"),
  "eval.batch_size": (1, _INF, "[)"),
  "checkpoint.every": (1, _INF, "[)"),
  "checkpoint.keep": (1, _INF, "[)"),
  "checkpoint.keep_best": (0, _INF, "[)"),
}
# Largest sensible margin: two opposite vectors, and less than half a turn.
_MARGIN_LIMIT = {"cosface": 2.0, "arcface": 3.14159, "nsl": _INF}


def flatten(config: Config) -> dict[str, object]:
  """Every field by its dotted name, as it is written on the command line.

  >>> flatten(Config())["optim.learning_rate"]
  0.1
  """
  flat: dict[str, object] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if dataclasses.is_dataclass(value):
      for inner in dataclasses.fields(value):
        flat[f"{field.name}.{inner.name}"] = getattr(value, inner.name)
    else:
      flat[field.name] = value
  return flat


def validate(config: Config) -> None:
  """Checks every field on its own and those that depend on each other.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  values = flatten(config)
  for name, (low, high, kind) in _RANGES.items():
    value = values[name]
    if value is None:
      continue
    assert isinstance(value, int | float)
    above = value >= low if kind[0] == "[" else value > low
    below = value <= high if kind[1] == "]" else value < high
    if not (above and below):
      upper = "inf" if high == _INF else f"{high:g}"
      raise ValueError(
        f"{name}={value!r} is out of range: allowed is"
        f" {kind[0]}{low:g}, {upper}{kind[1]}"
      )
  _validate_together(config)


def _validate_together(config: Config) -> None:
  if (config.steps is None) == (config.epochs is None):
    raise ValueError(
      f"steps={config.steps} and epochs={config.epochs}: give exactly one"
    )
  limit = _MARGIN_LIMIT[config.loss.name]
  if not 0 <= config.loss.margin < limit:
    raise ValueError(
      f"loss.margin={config.loss.margin} is out of range: allowed for"
      f" {config.loss.name} is [0, {limit:g})"
    )
  if any(side < 16 or side % 16 for side in config.data.image_size):
    raise ValueError(
      f"data.image_size={config.data.image_size} is out of range: height and"
      " width must be multiples of 16 (the nets halve the map four times)"
    )
  if config.data.source == "folder" and not config.data.path:
    raise ValueError(
      "data.path is empty: data.source=folder needs the folder that holds one"
      " folder of images for each identity"
    )
  marks = config.optim.milestones
  inside = all(config.optim.warmup < mark < 1 for mark in marks)
  if config.optim.schedule == "step" and not (
    marks and inside and list(marks) == sorted(set(marks))
  ):
    raise ValueError(
      f"optim.milestones={marks}: the step schedule needs increasing shares of"
      f" the run, between optim.warmup={config.optim.warmup:g} and 1"
    )
  if config.eval.threshold_pairs and not config.eval.pairs:
    raise ValueError(
      f"eval.threshold_pairs={config.eval.threshold_pairs!r} needs eval.pairs,"
      " the pairs to which the threshold is applied"
    )
