"""From the settings of arcface_torch to flags of this trainer.

What is named here was read in its `train_v2.py`, `losses.py` and
`partial_fc_v2.py` (InsightFace, `recognition/arcface_torch`).
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from facejax.models import config as model_config

# What its configs/base.py says, for files that lie elsewhere.
DEFAULTS: Mapping[str, Any] = {
  "margin_list": [1.0, 0.5, 0.0],
  "network": "r50",
  "save_all_states": False,
  "output": None,
  "embedding_size": 512,
  "sample_rate": 1,
  "interclass_filtering_threshold": 0,
  "fp16": False,
  "batch_size": 128,
  "optimizer": "sgd",
  "lr": 0.1,
  "weight_decay": 5e-4,
  "verbose": 2000,
  "frequent": 10,
  "gradient_acc": 1,
  "seed": 2048,
  "warmup_epoch": 0,
  "val_targets": [],
  "dali_aug": False,
  "using_wandb": False,
}
_NEEDED = ("rec", "num_epoch")
# Settings without a flag: what stands for them, or why nothing need.
_WITHOUT = {
  "num_classes": "people are counted in the data",
  "num_image": "images are counted in the data",
  "resume": "the same command again goes on where it stopped",
  "num_workers": "--data.workers is of the whole machine; it is left as it is",
  "dali": "decoding is by --data.threads and --data.workers",
}
# Read without a word: they say what is so here in any case, or of trackers
# what their own variables and files say.
_SILENT = re.compile(r"wandb_\w+|suffix_run_name|notes|save_artifacts|momentum")
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
_GPUS = re.compile(r"(\d+)gpus?", re.IGNORECASE)


class Translation(NamedTuple):
  """A run of this trainer.

  Attributes:
    recipe: of the loss, without a preset.
    fields: by dotted name, as `config.flatten` has them.
    notes: what differs, a line each.
  """

  recipe: str
  fields: dict[str, Any]
  notes: list[str]


def gpus(path: str | pathlib.Path) -> int | None:
  """How many GPUs the name of a file speaks of.

  >>> gpus("configs/wf42m_pfc02_16gpus_r100.py")
  16
  """
  name = pathlib.Path(path).stem
  if "onegpu" in name:
    return 1
  found = _GPUS.search(name)
  return int(found[1]) if found else None


def translate(
  settings: Mapping[str, Any], *, name: str, gpus: int
) -> Translation:
  """The run that arcface_torch would make of its settings.

  Args:
    settings: by name; `DEFAULTS` for what is not set.
    name: of the file, for the work folder.
    gpus: on how many it was started; its batch_size is of one.

  Raises:
    ValueError: naming a setting that is missing or means nothing here.
  """
  for needed in _NEEDED:
    if settings.get(needed) is None:
      raise ValueError(f"config.{needed} is missing: a run cannot do without")
  given = {**DEFAULTS, **settings}
  notes: list[str] = []
  recipe, fields = _loss(given, notes)
  for part in (_lengths, _data, _net, _head, _optimizer, _rest):
    fields |= part(given, gpus, notes)
  fields["workdir"] = str(given["output"] or f"runs/{name}")
  notes += _left_out(settings)
  return Translation(recipe, fields, notes)


def _number(given: Mapping[str, Any], name: str, *, least: float = 0) -> Any:
  value = given[name]
  wrong = isinstance(value, bool) or not isinstance(value, int | float)
  if wrong or not value >= least:
    raise ValueError(f"config.{name}={value!r} must be a number from {least:g}")
  return value


def _loss(
  given: Mapping[str, Any], notes: list[str]
) -> tuple[str, dict[str, Any]]:
  margins = given["margin_list"]
  # An older trainer names its loss instead.
  named = {"cosface": [1.0, 0.0, 0.4], "arcface": [1.0, 0.5, 0.0]}
  if given.get("loss") in named and margins == DEFAULTS["margin_list"]:
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
    loss = {"loss.margin": m2, "loss.guard": "none"}
    return "arcface.py", {
      "loss.scale": _SCALE,
      **loss,
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


def _lengths(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  size = _number(given, "batch_size", least=1)
  parts = _number(given, "gradient_acc", least=1)
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
    "epochs": float(_number(given, "num_epoch", least=1)),
    "batch_size": size * gpus * parts,
    "accumulate": parts,
    # It counts parts as steps.
    "log_every": max(1, _number(given, "frequent") // parts),
    "eval.every": max(1, _number(given, "verbose") // parts),
  }


def _data(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
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


def _net(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
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
    "model.embedding_dim": _number(given, "embedding_size", least=1),
    "model.dropout": 0.0,
    "model.dtype": "bfloat16" if given["fp16"] else "float32",
    "model.bn_group": 0 if whole else size,
  }


def _head(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  rate = _number(given, "sample_rate")
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
  threshold = _number(given, "interclass_filtering_threshold")
  fields["head.interclass_filtering_threshold"] = float(threshold)
  if threshold:
    notes.append(
      "interclass_filtering_threshold sets cosines above it to 0 there; here"
      " those classes leave the loss of the image"
    )
  if given["fp16"]:
    notes.append("fp16 with a loss scale there is bfloat16 without one here")
  return fields


def _optimizer(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
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
  passes = _number(given, "warmup_epoch")
  return {
    "optim.name": name,
    "optim.learning_rate": float(_number(given, "lr")),
    "optim.weight_decay": float(_number(given, "weight_decay")),
    "optim.scale_by_batch": "none",
    "optim.clip_norm": 5.0,
    "optim.schedule": "linear",
    "optim.warmup": f"{passes:g}ep" if passes else 0.0,
    **own[name],
  }


def _rest(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  fields: dict[str, Any] = {"seed": int(_number(given, "seed"))}
  if given["save_all_states"]:
    fields["checkpoint.every"] = "1ep"
  else:
    notes.append(
      "save_all_states is off there, so that nothing could be resumed; here a"
      " checkpoint is kept in any case (--checkpoint.every)"
    )
  if given["using_wandb"]:
    fields["track"] = ("wandb",)
  return fields


def _left_out(settings: Mapping[str, Any]) -> list[str]:
  known = {*DEFAULTS, *_NEEDED, "loss"}
  notes = [
    f"{name}: {why}" for name, why in _WITHOUT.items() if settings.get(name)
  ]
  return notes + [
    f"{name} = {value!r}: arcface_torch has no such setting; left out"
    for name, value in settings.items()
    if name not in {*known, *_WITHOUT} and not _SILENT.fullmatch(name)
  ]
