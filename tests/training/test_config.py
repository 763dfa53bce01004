"""The ranges of all fields of a configuration, written beside them."""

import dataclasses
import math

import pytest

from facejax.data.augment import augment
from facejax.models import config as model_config
from facejax.runtime import ranges
from facejax.training import config as config_lib
from facejax.training import config_checks
from facejax.training.objectives import definition, registry

GROUPS = {
  "": config_lib.Config,
  "data.": config_lib.DataConfig,
  "augment.": augment.Augment,
  "model.": model_config.ModelConfig,
  "center.": config_lib.CenterConfig,
  "head.": config_lib.HeadConfig,
  "optim.": config_lib.OptimConfig,
  "mesh.": config_lib.MeshConfig,
  "eval.": config_lib.EvalConfig,
  "checkpoint.": config_lib.CheckpointConfig,
}
LOSSES = {
  each.name: each
  for each in vars(registry).values()
  if isinstance(each, type)
  and issubclass(each, (definition.OverClasses, definition.WithinBatch))
}
# What was allowed before the ranges stood beside the fields.
FIELDS = {
  "seed": "[0, 4.29497e+09]", "steps": "[1, inf)", "epochs": "(0, inf)",
  "batch_size": "[1, inf)", "log_every": "[1, inf)",
  "data.min_images": "[1, inf)", "data.crop": "(0, 1]",
  "data.num_identities": "[2, inf)", "data.images_per_identity": "[2, inf)",
  "data.identities_per_batch": "[0, inf)",
  "data.images_of_identity": "[0, inf)", "data.random_negatives": "[0, inf)",
  "data.threads": "[1, inf)", "data.workers": "[0, inf)",
  "data.max_bad_share": "[0, 1]",
  "model.embedding_dim": "[1, inf)", "model.dropout": "[0, 1)",
  "model.drop_path": "[0, 1)", "model.mask_ratio": "[0, 1)",
  "head.rate": "(0, 1]", "head.block_size": "[1, inf)",
  "head.saved_mib": "[0, inf)", "head.extra_classes": "[0, inf)",
  "center.weight": "[0, inf)", "center.rate": "(0, 1]",
  "optim.learning_rate": "(0, inf)", "optim.momentum": "[0, 1)",
  "optim.accumulator": "[0, inf)", "optim.epsilon": "(0, inf)",
  "optim.ema": "[0, 1)", "optim.weight_decay": "[0, inf)",
  "optim.clip_norm": "[0, inf)", "optim.warmup": "[0, 1)",
  "optim.decay_factor": "(0, 1)", "optim.power": "(0, inf)",
  "mesh.devices": "[1, inf)", "mesh.model": "[1, inf)",
  "eval.num_pairs": "[20, inf)", "eval.every": "[0, inf)",
  "eval.batch_size": "[1, inf)",
  "checkpoint.every": "[1, inf)", "checkpoint.keep": "[1, inf)",
  "checkpoint.keep_best": "[0, inf)",
}  # fmt: skip
ANGLE = "[0, 3.14159)"
OF_LOSSES = {
  "scale": "(0, inf)", "margin": ANGLE, "cosface.margin": "[0, 2)",
  "uniface.margin": "[0, 2)", "circle.margin": "[0, 1)",
  "l_softmax.margin": "[1, 10]", "a_softmax.margin": "[1, 10]",
  "sphereface_r.margin": "[1, 10]", "sphereface2.margin": "[0, 10]",
  "centers": "[1, 100]", "intra_weight": "[0, inf)", "m1": "(0, 10]",
  "m2": ANGLE, "m3": "[0, 2)", "base": "[0, inf)", "gamma": "[0, inf)",
  "power": "(0, inf)", "minimum": "[0, inf)", "alpha": "(0, 1)",
  "weight": "(0, inf)", "magface.weight": "[0, inf)",
  "concentration": "[0, inf)", "decay": "[0, 1]", "rate": "[0, 1]",
  "lower_norm": "(0, inf)", "upper_norm": "(0, inf)", "lower_margin": ANGLE,
  "upper_margin": ANGLE, "std": "[0, inf)", "triplet.margin": "(0, 4)",
  "contrastive.margin": "(0, 2)", "temperature": "(0, inf)",
}  # fmt: skip


def test_every_group_is_here():
  config = config_lib.Config(steps=1)
  groups = {
    f"{field.name}.": type(value)
    for field in dataclasses.fields(config)
    if dataclasses.is_dataclass(value := getattr(config, field.name))
  }
  assert groups.pop("loss.") in LOSSES.values()
  assert groups == {name: cls for name, cls in GROUPS.items() if name}


def test_every_number_has_the_range_that_it_had():
  """`of_fields` refuses a number without one, so that none goes unchecked."""
  found = {
    prefix + name: str(bounds)
    for prefix, cls in GROUPS.items()
    for name, bounds in ranges.of_fields(cls).items()
  }
  assert {name: found[name] for name in FIELDS} == FIELDS
  new = {name for name in found.keys() - FIELDS if "augment." not in name}
  # Sizes and shares of tuples, which nobody checked before.
  assert new == {"data.image_size", "optim.milestones"}


@pytest.mark.parametrize("name", LOSSES)
def test_every_number_of_a_loss_has_the_range_that_it_had(name):
  for field, bounds in ranges.of_fields(LOSSES[name]).items():
    wanted = OF_LOSSES.get(f"{name}.{field}", OF_LOSSES.get(field))
    assert str(bounds) == wanted, field


def test_a_number_without_a_range_is_refused():
  @dataclasses.dataclass(frozen=True)
  class Careless:
    margin: float = 0.1

  with pytest.raises(TypeError, match=r"Careless\.margin: .*without a range"):
    ranges.of_fields(Careless)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"steps": 0}, r"steps=0 is out of range: allowed is \[1, inf\)"),
    ({"seed": 2**32}, "seed=4294967296 is out of range"),
    ({"data": config_lib.DataConfig(crop=0.0)}, r"data\.crop=0\.0 .*\(0, 1\]"),
    ({"data": config_lib.DataConfig(crop=math.nan)}, r"data\.crop=nan"),
    (
      {"loss": registry.CosFace(margin=2.0)},
      r"loss\.margin=2\.0 is out of range: allowed for cosface is \[0, 2\)",
    ),
    ({"loss": registry.CosFace(scale=math.inf)}, r"loss\.scale=inf"),
    ({"mesh": config_lib.MeshConfig(devices=0)}, r"mesh\.devices=0"),
  ],
)
def test_a_value_outside_is_named_with_what_is_allowed(changes, message):
  config = dataclasses.replace(config_lib.Config(steps=1), **changes)
  with pytest.raises(ValueError, match=message):
    config_checks.validate(config)


@pytest.mark.parametrize(
  "changes",
  [
    {"seed": 2**32 - 1},
    {"data": config_lib.DataConfig(crop=1.0)},
    {"loss": registry.CosFace(margin=0.0)},
    {"loss": registry.SphereFace2(margin=10.0)},
  ],
)
def test_the_ends_that_belong_to_a_range_are_taken(changes):
  config_checks.validate(
    dataclasses.replace(config_lib.Config(steps=1), **changes)
  )
