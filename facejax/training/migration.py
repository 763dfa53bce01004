"""From the settings of arcface_torch to flags of this trainer.

What is named here was read in its `train_v2.py`, `losses.py` and
`partial_fc_v2.py` (InsightFace, `recognition/arcface_torch`).
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from facejax.training import migration_fields as parts

# What its configs/base.py says, for files that lie elsewhere.
DEFAULTS: Mapping[str, Any] = {
  "margin_list": parts.ARCFACE,
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
  recipe, fields = parts.loss(given, notes)
  subjects = (parts.lengths, parts.data, parts.net, parts.head, parts.optimizer)
  for part in (*subjects, _rest):
    fields |= part(given, gpus, notes)
  fields["workdir"] = str(given["output"] or f"runs/{name}")
  notes += _left_out(settings)
  return Translation(recipe, fields, notes)


def _rest(
  given: Mapping[str, Any], gpus: int, notes: list[str]
) -> dict[str, Any]:
  fields: dict[str, Any] = {"seed": int(parts.number(given, "seed"))}
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
