"""What each field of a configuration may hold, at the ends of its range."""

import dataclasses
import math
import typing

import pytest
from helpers import loss_cases

from facejax.runtime import ranges
from facejax.training import config as config_lib
from facejax.training import config_checks

INF = math.inf
LOSSES = loss_cases.ALL
PARTS = {
  field.name: type(getattr(config_lib.Config(), field.name))
  for field in dataclasses.fields(config_lib.Config)
  if dataclasses.is_dataclass(getattr(config_lib.Config(), field.name))
  and field.name != "loss"
} | {"optim.head": config_lib.HeadOptimConfig}
# Field -> its range. Written out a second time on purpose: a run that was
# accepted once must not be refused because a type was edited, nor the reverse.
RANGES = {
  "seed": "[0, 4294967295]",
  "steps": "[1, inf)",
  "epochs": "(0, inf)",
  "batch_size": "[1, inf)",
  "accumulate": "[1, inf)",
  "log_every": "[1, inf)",
  "compatible_weight": "(0, inf)",
  "distillation.cosine": "[0, inf)",
  "distillation.relations": "[0, inf)",
  "stuck_after": "[0, inf)",
  "check_every": "[0, inf)",
  "data.min_images": "[1, inf)",
  "data.crop": "(0, 1]",
  "data.num_identities": "[2, inf)",
  "data.images_per_identity": "[2, inf)",
  "data.identities_per_batch": "[0, inf)",
  "data.images_of_identity": "[0, inf)",
  "data.random_negatives": "[0, inf)",
  "data.threads": "[1, inf)",
  "data.workers": "[0, inf)",
  "data.max_bad_share": "[0, 1]",
  "model.embedding_dim": "[1, inf)",
  "model.dropout": "[0, 1)",
  "model.drop_path": "[0, 1)",
  "model.mask_ratio": "[0, 1)",
  "model.bn_group": "[0, inf)",
  "model.lora": "[0, inf)",
  "model.lora_alpha": "(0, inf)",
  "head.rate": "(0, 1]",
  "head.interclass_filtering_threshold": "[0, 1)",
  "head.block_size": "[1, inf)",
  "head.saved_mib": "[0, inf)",
  "head.extra_classes": "[0, inf)",
  "center.weight": "[0, inf)",
  "center.rate": "(0, 1]",
  "memory.size": "[0, inf)",
  "memory.start": "[0, inf)",
  "optim.learning_rate": "(0, inf)",
  "optim.momentum": "[0, 1)",
  "optim.accumulator": "[0, inf)",
  "optim.epsilon": "(0, inf)",
  "optim.beta1": "[0, 1)",
  "optim.beta2": "[0, 1)",
  "optim.ema": "[0, 1)",
  "optim.weight_decay": "[0, inf)",
  "optim.layer_decay": "(0, 1]",
  "optim.trust": "(0, inf)",
  "optim.reference_batch": "[1, inf)",
  "optim.head.learning_rate": "(0, inf)",
  "optim.head.momentum": "[0, 1)",
  "optim.head.epsilon": "(0, inf)",
  "optim.head.beta1": "[0, 1)",
  "optim.head.beta2": "[0, 1)",
  "optim.head.weight_decay": "[0, inf)",
  "optim.head.warmup": "[0, 1)",
  "optim.clip_norm": "[0, inf)",
  "optim.warmup": "[0, 1)",
  "optim.decay_factor": "(0, 1)",
  "optim.power": "(0, inf)",
  "mesh.devices": "[1, inf)",
  "mesh.model": "[1, inf)",
  "mesh.cpu_devices": "[1, 1024]",
  "eval.hold_out": "[0, 1)",
  "eval.num_pairs": "[20, inf)",
  "eval.every": "[0, inf)",
  "eval.patience": "[0, inf)",
  "eval.batch_size": "[1, inf)",
  "checkpoint.every": "[1, inf)",
  "checkpoint.keep": "[1, inf)",
  "checkpoint.keep_best": "[0, inf)",
}
ANGLE = "[0, 3.14159)"
# The same for fields of a loss, by its name, or for all losses that have them.
LOSS_RANGES = {
  "scale": "(0, inf)",
  "margin": ANGLE,
  "cosface.margin": "[0, 2)",
  "alpha_cosface.margin": "[0, 2)",
  "alpha_cosface.alpha": "[1.01, 2]",
  "alpha_arcface.alpha": "[1.01, 2]",
  "uniface.margin": "[0, 2)",
  "circle.margin": "[0, 1)",
  "l_softmax.margin": "[1, 10]",
  "a_softmax.margin": "[1, 10]",
  "sphereface_r.margin": "[1, 10]",
  "sphereface2.margin": "[0, 10]",
  "triplet.margin": "(0, 4)",
  "contrastive.margin": "(0, 2)",
  "proxy_anchor.margin": "[0, 2)",
  "soft_triple.margin": "[0, 2)",
  "soft_triple.gamma": "(0, inf)",
  "tau": "[0, inf)",
  "positive_scale": "(0, inf)",
  "negative_scale": "(0, inf)",
  "base": "[0, inf)",
  "multi_similarity.base": "[-1, 1]",
  "epsilon": "[0, 2]",
  "centers": "[1, 100]",
  "intra_weight": "[0, inf)",
  "m1": "(0, 10]",
  "m2": ANGLE,
  "m3": "[0, 2)",
  "gamma": "[0, inf)",
  "power": "(0, inf)",
  "minimum": "[0, inf)",
  "alpha": "(0, 1)",
  "weight": "(0, inf)",
  "magface.weight": "[0, inf)",
  "concentration": "[0, inf)",
  "decay": "[0, 1]",
  "rate": "[0, 1]",
  "lower_norm": "(0, inf)",
  "upper_norm": "(0, inf)",
  "lower_margin": ANGLE,
  "upper_margin": ANGLE,
  "std": "[0, inf)",
  "temperature": "(0, inf)",
}
# What other fields have a say in; their own ranges are tested elsewhere.
TOGETHER = ("image_size", "milestones")


def numbers(cls):
  """Fields whose type has a number in it somewhere, found without `ranges`."""
  hints = typing.get_type_hints(cls)

  def has_number(hint):
    return hint in (int, float) or any(map(has_number, typing.get_args(hint)))

  return [f.name for f in dataclasses.fields(cls) if has_number(hints[f.name])]


@pytest.mark.parametrize(
  "cls",
  [config_lib.Config, *PARTS.values(), *LOSSES],
  ids=lambda cls: cls.__name__,
)
def test_every_number_has_a_range_that_its_default_is_in(cls):
  found = ranges.of_fields(cls)
  assert set(found) == set(numbers(cls))
  ranges.check(cls())


def edges(text):
  """(values inside, values outside) at the ends of a range."""
  low, high = map(float, text[1:-1].split(","))
  inside, outside = [], [math.nan, INF, -INF]
  closed = (text[0] == "[", text[-1] == "]")
  for end, is_closed, out in zip((low, high), closed, (-INF, INF), strict=True):
    if math.isfinite(end):
      (inside if is_closed else outside).append(end)
      (outside if is_closed else inside).append(
        math.nextafter(end, out if is_closed else -out)
      )
  return inside + [1e300] * (high == INF), outside


def expect(text, change, name, where=""):
  """Holds what a configuration says of values against a range."""
  inside, outside = edges(text)
  for value in inside:
    try:
      config_checks.validate(change(value))
    except ValueError as error:
      # Such as a batch that does not fit its people.
      assert "out of range" not in str(error), (name, value)
  for value in outside:
    with pytest.raises(ValueError) as caught:
      config_checks.validate(change(value))
    assert str(caught.value).startswith(
      f"{name}={value!r} is out of range: allowed{where} is {text[0]}"
    )


def test_the_table_is_of_all_fields():
  every = set(numbers(config_lib.Config)) | {
    f"{part}.{name}"
    for part, cls in PARTS.items()
    if part != "augment"
    for name in numbers(cls)
    if name not in TOGETHER
  }
  assert every == set(RANGES)
  fields = {name for loss in LOSSES for name in numbers(loss)}
  assert fields == {name.split(".")[-1] for name in LOSS_RANGES}


@pytest.mark.parametrize("name", RANGES)
def test_ends_of_ranges(name):
  base = config_lib.Config(steps=5)
  part, _, field = name.rpartition(".")

  def change(value):
    if part == "optim.head":
      own = config_lib.HeadOptimConfig(**{field: value})
      inner = dataclasses.replace(base.optim, head=own)
      return dataclasses.replace(base, optim=inner)
    if part:
      inner = dataclasses.replace(getattr(base, part), **{field: value})
      return dataclasses.replace(base, **{part: inner})
    other = {"steps": None} if field == "epochs" else {}
    return dataclasses.replace(base, **other, **{field: value})

  expect(RANGES[name], change, name)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_ends_of_the_ranges_of_losses(loss):
  for field in numbers(loss):
    text = LOSS_RANGES.get(f"{loss.name}.{field}", LOSS_RANGES[field])

    def change(value, field=field):
      changed = dataclasses.replace(loss(), **{field: value})
      return config_lib.Config(steps=5, loss=changed)

    expect(text, change, f"loss.{field}", f" for {loss.name}")


def test_image_sizes_are_positive():
  with pytest.raises(ValueError, match=r"data.image_size=\(0, 48\) is out of"):
    config_checks.validate(
      config_lib.Config(steps=5, data=config_lib.DataConfig(image_size=(0, 48)))
    )


@pytest.mark.parametrize("schedule", ["linear", "step"])
def test_milestones_are_bounded_where_the_schedule_has_steps(schedule):
  optim = config_lib.OptimConfig(schedule=schedule, milestones=(0.5, 2.0))
  config = config_lib.Config(steps=5, optim=optim)
  if schedule == "linear":
    config_checks.validate(config)
    return
  with pytest.raises(ValueError, match=r"optim.milestones=\(0.5, 2.0\): .*"):
    config_checks.validate(config)


def test_kernels_take_every_step():
  config = config_lib.Config(
    steps=1,
    on_nonfinite="skip",
    head=config_lib.HeadConfig(implementation="pallas"),
  )
  with pytest.raises(ValueError, match="on_nonfinite=skip.*pallas.*rollback"):
    config_checks.validate(config)
