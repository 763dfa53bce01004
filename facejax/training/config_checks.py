"""Ranges of the configuration's fields, checked before any work starts."""

from facejax.data import formats
from facejax.models import functional
from facejax.training import config as config_lib
from facejax.training.objectives import registry, within_batch

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
  "data.identities_per_batch": (0, _INF, "[)"),
  "data.images_of_identity": (0, _INF, "[)"),
  "data.random_negatives": (0, _INF, "[)"),
  "data.threads": (1, _INF, "[)"),
  "data.workers": (0, _INF, "[)"),
  "data.max_bad_share": (0, 1, "[]"),
  "model.embedding_dim": (1, _INF, "[)"),
  "model.dropout": (0, 1, "[)"),
  "model.drop_path": (0, 1, "[)"),
  "model.mask_ratio": (0, 1, "[)"),
  "head.rate": (0, 1, "(]"),
  "head.block_size": (1, _INF, "[)"),
  "head.saved_mib": (0, _INF, "[)"),
  "head.extra_classes": (0, _INF, "[)"),
  "center.weight": (0, _INF, "[)"),
  "center.rate": (0, 1, "(]"),
  "optim.learning_rate": (0, _INF, "()"),
  "optim.momentum": (0, 1, "[)"),
  "optim.accumulator": (0, _INF, "[)"),
  "optim.epsilon": (0, _INF, "()"),
  "optim.ema": (0, 1, "[)"),
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
# The same for fields of a loss, by its name, or for all losses that have them.
_PI = 3.14159
_LOSS_RANGES: dict[str, tuple[float, float, str]] = {
  "scale": (0, _INF, "()"),
  "margin": (0, _PI, "[)"),
  "cosface.margin": (0, 2, "[)"),
  "uniface.margin": (0, 2, "[)"),
  "circle.margin": (0, 1, "[)"),
  "l_softmax.margin": (1, 10, "[]"),
  "a_softmax.margin": (1, 10, "[]"),
  "sphereface_r.margin": (1, 10, "[]"),
  "sphereface2.margin": (0, 10, "[]"),
  "centers": (1, 100, "[]"),
  "intra_weight": (0, _INF, "[)"),
  "m1": (0, 10, "(]"),
  "m2": (0, _PI, "[)"),
  "m3": (0, 2, "[)"),
  "base": (0, _INF, "[)"),
  "gamma": (0, _INF, "[)"),
  "power": (0, _INF, "()"),
  "minimum": (0, _INF, "[)"),
  "alpha": (0, 1, "()"),
  "weight": (0, _INF, "()"),
  "magface.weight": (0, _INF, "[)"),
  "concentration": (0, _INF, "[)"),
  "decay": (0, 1, "[]"),
  "rate": (0, 1, "[]"),
  "lower_norm": (0, _INF, "()"),
  "upper_norm": (0, _INF, "()"),
  "lower_margin": (0, _PI, "[)"),
  "upper_margin": (0, _PI, "[)"),
  "std": (0, _INF, "[)"),
  "triplet.margin": (0, 4, "()"),
  "contrastive.margin": (0, 2, "()"),
  "temperature": (0, _INF, "()"),
}


def validate(config: config_lib.Config) -> None:
  """Checks every field on its own and those that depend on each other.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  values = config_lib.flatten(config)
  for name, bounds in _RANGES.items():
    _check(name, values[name], bounds)
  for field, value in vars(config.loss).items():
    own = _LOSS_RANGES.get(f"{config.loss.name}.{field}")
    bounds = own or _LOSS_RANGES.get(field)
    if bounds:
      _check(f"loss.{field}", value, bounds, f" for {config.loss.name}")
  _validate_together(config)


def _check(name, value, bounds, where="") -> None:
  if value is None:
    return
  low, high, kind = bounds
  above = value >= low if kind[0] == "[" else value > low
  below = value <= high if kind[1] == "]" else value < high
  if not (above and below):
    upper = "inf" if high == _INF else f"{high:g}"
    raise ValueError(
      f"{name}={value!r} is out of range: allowed{where} is"
      f" {kind[0]}{low:g}, {upper}{kind[1]}"
    )


def _validate_together(config: config_lib.Config) -> None:
  if (config.steps is None) == (config.epochs is None):
    raise ValueError(
      f"steps={config.steps} and epochs={config.epochs}: give exactly one"
    )
  _validate_loss(config.loss, config.model.name)
  _validate_batch(config)
  _validate_head(config)
  try:
    functional.check_image_size(config.model.name, config.data.image_size)
  except ValueError as error:
    raise ValueError(
      f"data.image_size={config.data.image_size}: {error}"
    ) from None
  functional.check_options(
    config.model.name,
    norm=config.model.norm,
    se=config.model.se,
    drop_path=config.model.drop_path,
    mask_ratio=config.model.mask_ratio,
    remat=config.model.remat,
  )
  _validate_data(config.data)
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


def _validate_data(data: config_lib.DataConfig) -> None:
  if data.source != "synthetic" and not data.path:
    raise ValueError(
      f"data.path is empty: data.source={data.source} needs the place of the"
      " images"
    )
  for place in data.join:
    try:
      formats.parse_place(place)
    except ValueError as error:
      raise ValueError(f"data.join={error}") from None
  if data.source == "synthetic" and (data.join or data.exclude):
    raise ValueError(
      "data.join and data.exclude go with images in files: give data.path"
    )


def _validate_loss(loss: registry.LossConfig, net: str) -> None:
  # FaceNet's nets end in a normalisation.
  by_length = registry.AdaFace | registry.MagFace
  if isinstance(loss, by_length) and not net.startswith("iresnet"):
    raise ValueError(
      f"model.name={net}: its embeddings all have length 1, and {loss.name}"
      " reads image quality off their length: use an iresnet"
    )
  if not isinstance(loss, registry.MagFace):
    return
  for name in ("norm", "margin"):
    lower, upper = (
      getattr(loss, f"lower_{name}"),
      getattr(loss, f"upper_{name}"),
    )
    if not lower < upper:
      raise ValueError(
        f"loss.lower_{name}={lower:g} must be below loss.upper_{name}={upper:g}"
      )


def _validate_head(config: config_lib.Config) -> None:
  head = config.head
  narrow = "bfloat16" in (head.storage, head.optimizer_storage)
  if narrow and head.implementation in ("chunked", "dense"):
    raise ValueError(
      f"head.implementation={head.implementation} keeps prototypes and their"
      " optimizer in float32: use fused, partial_fc or sparse with bfloat16"
      " storage"
    )
  narrow = narrow or head.precision == "bfloat16"
  if config.model.dtype == "float64" and (
    narrow or head.implementation == "sparse"
  ):
    raise ValueError(
      "model.dtype=float64 keeps everything in double precision: leave"
      " head.storage, head.optimizer_storage and head.precision at float32,"
      " and use another head.implementation than sparse"
    )
  binary = isinstance(config.loss, registry.SphereFace2 | registry.UniFace)
  if head.implementation == "sparse" and binary:
    raise ValueError(
      "head.implementation=sparse is for softmax losses;"
      f" {config.loss.name} counts every class on its own: use fused"
    )


def _validate_batch(config: config_lib.Config) -> None:
  data = config.data
  people, images = data.identities_per_batch, data.images_of_identity
  within = isinstance(config.loss, within_batch.WithinBatch)
  if within and not people:
    raise ValueError(
      f"{config.loss.name} compares images of a batch: give"
      " data.identities_per_batch and data.images_of_identity, such as 32 and 4"
    )
  if within and config.center.weight:
    raise ValueError(
      f"center.weight={config.center.weight:g} goes with a loss over classes,"
      f" not with {config.loss.name}"
    )
  if not people:
    return
  if people < 2 or images < 2:
    raise ValueError(
      f"data.identities_per_batch={people} and data.images_of_identity={images}:"
      " both must be 2 or more"
    )
  size = people * images + data.random_negatives
  if size != config.batch_size:
    raise ValueError(
      f"batch_size={config.batch_size} is not data.identities_per_batch x"
      f" data.images_of_identity + data.random_negatives = {people} x {images} +"
      f" {data.random_negatives} = {size}"
    )
