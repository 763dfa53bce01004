"""Settings of arcface_torch as fields of this trainer's configuration, by subject.

Each function takes all settings, how many GPUs it ran on there, and the list that
it adds a line to for what differs; it returns fields by dotted name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from facejax.models import config as model_config

# Its plain names have drop path and masks, which its longer ones replace.
_NETS: Mapping[str, Mapping[str, Any]] = {
  **{
    f"vit_{size}": {
      "name": f"vit_{size}",
      "drop_path": 0.1,
      "mask_ratio": 0.1,
    }
    for size in "tsb"
  },
  "vit_h": {"name": "vit_h", "drop_path": 0.1},
  **{name: {"name": name} for name in ("mbf", "mbf_large")},
  **model_config.ALIASES,
}
_SCALE = 64.0
# What its margin_list is where a file says nothing.
ARCFACE = [1.0, 0.5, 0.0]


def number(given: Mapping[str, Any], name: str, *, least: float = 0) -> Any:
  """A setting that must be a number.

  Raises:
    ValueError: naming it, if it is none or less than `least`.
  """
  value = given[name]
  wrong = isinstance(value, bool) or not isinstance(value, int | float)
  if wrong or not value >= least:
    raise ValueError(f"config.{name}={value!r} must be a number from {least:g}")
  return value


def loss(
  given: Mapping[str, Any], notes: list[str]
) -> tuple[str, dict[str, Any]]:
  """The recipe of `margin_list`, and its fields.

  Raises:
    ValueError: for margins that arcface_torch, too, refuses.
  """
  margins = given["margin_list"]
  # An older trainer names its loss instead.
  named = {"cosface": [1.0, 0.0, 0.4], "arcface": ARCFACE}
  if given.get("loss") in named and margins == ARCFACE:
    margins = named[given["loss"]]
  if not isinstance(margins, Sequence) or len(margins) != 3:
    raise ValueError(f"config.margin_list={margins!r} must be (m1, m2, m3)")
  m1, m2, m3 = margins
  if m1 == 1 and m3 == 0:
    notes.append(
      "arcface_torch leaves the margin's slope out of ArcFace's gradient and"
      " has nothing for angles beyond pi - m: --loss.gradient detached"
      " --loss.guard none. Without these two flags it is as published."
    )
    return "arcface.py", {
      "loss.scale": _SCALE,
      "loss.margin": m2,
      "loss.guard": "none",
      "loss.gradient": "detached",
    }
  if not m3 > 0:
    raise ValueError(
      f"config.margin_list={margins!r} is refused by arcface_torch, too: it takes"
      " (1, m2, 0) and (1, 0, m3); all three together are combined.py here"
    )
  if (m1, m2) != (1, 0):
    notes.append(
      f"of margin_list={margins!r} arcface_torch uses m3 alone where it is above"
      " 0; all three together are combined.py here"
    )
  return "cosface.py", {"loss.scale": _SCALE, "loss.margin": m3}


def lengths(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  """Batch, epochs and what is counted in steps."""
  size = number(given, "batch_size", least=1)
  parts = number(given, "gradient_acc", least=1)
  notes.append(
    f"batch_size {size} is of one GPU there, of all here: {size} x {gpus} GPUs"
    + (f" x gradient_acc {parts}" if parts > 1 else "")
    + f" = {size * gpus * parts:,} (--gpus if it ran on another number)"
  )
  if parts > 1:
    notes.append(
      "gradient_acc adds the gradients of parts, each with a softmax of its own,"
      " and does not divide by their number; --accumulate is the whole batch in"
      " one softmax, and its mean. With sgd the learning rate there counts for"
      f" {parts} times as much."
    )
  return {
    "steps": None,
    "epochs": float(number(given, "num_epoch", least=1)),
    "batch_size": size * gpus * parts,
    "accumulate": parts,
    # It counts parts as steps.
    "log_every": max(1, number(given, "frequent") // parts),
    "eval.every": max(1, number(given, "verbose") // parts),
  }


def data(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  """Images, augmentation and what is verified on."""
  place = str(given["rec"])
  if place == "synthetic":
    notes.append(
      "rec = 'synthetic' is random noise there, to measure speed; here it is"
      " generated faces, to learn from"
    )
    return {"data.source": "synthetic", "eval.pairs": ()}
  packs = tuple(f"{place}/{one}.bin" for one in given["val_targets"])
  return {
    "data.source": "record_io",
    "data.path": place,
    "data.image_size": (112, 112),
    "data.policy": "insightface" if given["dali_aug"] else "none",
    "eval.pairs": packs or ("none",),
    "eval.path": "",
  }


def net(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  """The net and how it computes.

  Raises:
    ValueError: for a net that is not here.
  """
  name = str(given["network"])
  if name not in _NETS:
    raise ValueError(
      f"config.network={name!r} is no net of this trainer: it has"
      f" {', '.join(_NETS)}; another can be given as a function of yours"
      " (--model.name package.module:function)"
    )
  meant = {"drop_path": 0.0, "mask_ratio": 0.0, **_NETS[name]}
  size = given["batch_size"]
  whole = gpus * given["gradient_acc"] == 1
  notes.append(
    f"BatchNorm takes its statistics over the {size} images of a GPU there:"
    f" --model.bn-group {size}; 0 takes those of the whole batch"
  )
  return {
    **{f"model.{field}": value for field, value in meant.items()},
    "model.embedding_dim": number(given, "embedding_size", least=1),
    "model.dropout": 0.0,
    "model.dtype": "bfloat16" if given["fp16"] else "float32",
    "model.bn_group": 0 if whole else size,
  }


def head(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  """Sampling, filtering and precision of the classes."""
  rate = number(given, "sample_rate")
  sampled = rate < 1
  fields: dict[str, Any] = {
    "head.implementation": "partial_fc" if sampled else "fused",
    "head.precision": "bfloat16" if given["fp16"] else "float32",
  }
  if sampled:
    fields["head.rate"] = float(rate)
    notes.append(
      f"sample_rate {rate:g} samples the classes to save memory; the default of"
      " this trainer, --head.implementation fused, counts all of them and holds"
      " no logits"
    )
  threshold = number(given, "interclass_filtering_threshold")
  fields["head.interclass_filtering_threshold"] = float(threshold)
  if threshold:
    notes.append(
      "interclass_filtering_threshold sets cosines above it to 0 there; here"
      " those classes leave the loss of the image"
    )
  if given["fp16"]:
    notes.append("fp16 with a loss scale there is bfloat16 without one here")
  return fields


def optimizer(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  """Optimizer and schedule; its schedule is polynomial of power 1.

  Raises:
    ValueError: for one that arcface_torch has not.
  """
  name = given["optimizer"]
  own: Mapping[str, Mapping[str, Any]] = {
    # Whatever config.momentum says.
    "sgd": {"optim.momentum": 0.9, "optim.nesterov": False},
    "adamw": {
      "optim.beta1": 0.9,
      "optim.beta2": 0.999,
      "optim.epsilon": 1e-8,
    },
  }
  if name not in own:
    raise ValueError(
      f"config.optimizer={name!r}: arcface_torch has sgd and adamw"
    )
  if name == "sgd" and given.get("momentum", 0.9) != 0.9:
    notes.append(
      f"momentum = {given['momentum']} is not looked at by arcface_torch, which"
      " takes 0.9"
    )
  passes = number(given, "warmup_epoch")
  return {
    "optim.name": name,
    "optim.learning_rate": float(number(given, "lr")),
    "optim.weight_decay": float(number(given, "weight_decay")),
    "optim.scale_by_batch": "none",
    "optim.clip_norm": 5.0,
    "optim.schedule": "linear",
    "optim.warmup": f"{passes:g}ep" if passes else 0.0,
    **own[name],
  }
