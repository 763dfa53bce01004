"""Ranges of the configuration's fields, checked before any work starts."""

from facejax import config as config_lib

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
  "head.rate": (0, 1, "(]"),
  "head.block_size": (1, _INF, "[)"),
  "head.saved_mib": (0, _INF, "[)"),
  "head.extra_classes": (0, _INF, "[)"),
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


def validate(config: config_lib.Config) -> None:
  """Checks every field on its own and those that depend on each other.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  values = config_lib.flatten(config)
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


def _validate_together(config: config_lib.Config) -> None:
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
