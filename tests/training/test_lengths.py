"""Lengths in shares, passes and steps; learning rates scaled by the batch."""

import dataclasses
import json

import pytest
from helpers import small_training

from facejax.runs import folder
from facejax.training import (
  build,
  config_checks,
  dry_run,
  lengths,
  optimizers,
  recipe,
)
from facejax.training import config as config_lib

RUN = lengths.Length(steps=1000, per_epoch=100)


@pytest.mark.parametrize(
  ("value", "steps"),
  [
    (0.1, 100), (0, 0), ("2ep", 200), ("0.5ep", 50), (".25ep", 25),
    ("500st", 500), ("0ep", 0), ("9.99ep", 999), ("999st", 999),
  ],
)  # fmt: skip
def test_shares_passes_and_steps(value, steps):
  assert lengths.steps_of_share("optim.warmup", value, RUN) == steps


@pytest.mark.parametrize("value", ["10ep", "1000st", "11ep", "2000st"])
def test_a_length_beyond_the_run_is_refused_with_the_runs(value):
  with pytest.raises(ValueError) as caught:
    lengths.steps_of_share("optim.warmup", value, RUN)
  said = str(caught.value)
  assert f"optim.warmup='{value}'" in said and "give less" in said
  assert "1,000 steps, 10 passes over the images" in said


@pytest.mark.parametrize(
  "text",
  [
    "2", "0.1", "ep", "2 ep", "-2ep", "2epochs", "1.5st", "nanep", "1e3st",
    "infep", "", "٢ep",
  ],
)  # fmt: skip
def test_what_is_no_length_is_told_what_is(text):
  base = config_lib.Config(steps=5)
  optim = config_lib.OptimConfig
  for changed, name in (
    ({"optim": optim(warmup=text)}, "optim.warmup"),
    ({"optim": optim(milestones=(0.5, text))}, "optim.milestones"),
    (
      {"optim": optim(head=config_lib.HeadOptimConfig(warmup=text))},
      "optim.head.warmup",
    ),
    ({"eval": config_lib.EvalConfig(every=text)}, "eval.every"),
    ({"checkpoint": config_lib.CheckpointConfig(every=text)}, "checkpoint.e"),
  ):
    with pytest.raises(ValueError, match=rf"^{name}.* is no length: .*2ep"):
      config_checks.validate(dataclasses.replace(base, **changed))


def test_how_often():
  found = [
    lengths.steps_between("eval.every", value, 100)
    for value in (0, 7, "7st", "1ep", "2.5ep", "0.001ep", "0ep", "100ep")
  ]
  assert found == [0, 7, 7, 100, 250, 1, 0, 10_000]


def test_a_checkpoint_is_never_left_out():
  config = config_lib.Config(
    steps=5, checkpoint=config_lib.CheckpointConfig(every="0ep")
  )
  with pytest.raises(ValueError, match="checkpoint.every='0ep' is out of"):
    config_checks.validate(config)


def parse(*words):
  return recipe.parse([*map(str, words)]).to_config()


def test_flags_and_recipes_take_all_kinds(tmp_path):
  words = "--optim.schedule step --optim.milestones 0.5 12ep 90st"
  config = parse(
    *words.split(), "--optim.warmup", "2ep", "--optim.head.warmup", "0.2",
    "--eval.every", "1ep", "--checkpoint.every", 30,
  )  # fmt: skip
  assert config.optim.milestones == (0.5, "12ep", "90st")
  assert (config.optim.warmup, config.optim.head.warmup) == ("2ep", 0.2)
  assert (config.eval.every, config.checkpoint.every) == ("1ep", 30)
  # What a folder keeps is compared as JSON gives it back.
  assert config_lib.stored(config)["optim.warmup"] == "2ep"
  (tmp_path / "mine.py").write_text(
    "from facejax import config\n"
    "def get_config():\n  optim = config.OptimConfig(warmup='2ep')\n"
    "  return config.Config(steps=9, optim=optim)\n"
  )
  assert recipe.load(str(tmp_path / "mine.py")).optim.warmup == "2ep"


def test_help_says_what_a_length_may_be(capsys):
  with pytest.raises(SystemExit, match="0"):
    recipe.parse(["--help"])
  shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
  for words in (
    "--optim.warmup SHARE|2ep|500st",
    "--optim.head.warmup SHARE|2ep|500st",
    "--optim.milestones [SHARE|2ep|500st ...]",
    "--eval.every STEPS|1ep",
    "--checkpoint.every STEPS|1ep",
    "(default: 0.1; in [0, 1))",
  ):
    assert words in shown


def rates(optimizer, *steps, **length):
  rate = optimizers.schedule(optimizer, **length)
  return [round(float(rate(step)), 6) for step in steps]


def test_the_schedule_is_that_of_the_shares():
  marks = {"schedule": "step", "warmup": 0.1, "milestones": (0.5, 0.8)}
  shares = config_lib.OptimConfig(**marks)
  others = dataclasses.replace(
    shares, warmup="1ep", milestones=("5ep", "800st")
  )
  at = (50, 100, 499, 501, 799, 801)
  length = {"total_steps": 1000, "steps_per_epoch": 100}
  assert rates(others, *at, **length) == rates(shares, *at, **length)
  assert rates(others, *at, **length) == [0.05, 0.1, 0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"warmup": "3ep"}, "optim.warmup='3ep'.*300 steps.*of 300 steps"),
    (
      {"schedule": "step", "milestones": ("1ep", "400st")},
      "optim.milestones='400st'.*300 steps, 3 passes",
    ),
    (
      {"schedule": "step", "milestones": ("2ep", "150st")},
      r"milestones \(200, 150\).*increasing",
    ),
    (
      {"schedule": "step", "warmup": "2ep", "milestones": (0.5,)},
      r"milestones \(150,\).*after the warm-up \(200\)",
    ),
  ],
)
def test_what_does_not_fit_the_run_is_refused(fields, message):
  optimizer = config_lib.OptimConfig(**fields)
  config_checks.validate(config_lib.Config(steps=300, optim=optimizer))
  with pytest.raises(ValueError, match=message):
    optimizers.schedule(optimizer, total_steps=300, steps_per_epoch=100)


def test_passes_of_unknown_length_are_refused():
  optimizer = config_lib.OptimConfig(warmup="2ep")
  with pytest.raises(ValueError, match="optim.warmup='2ep'.*is not known here"):
    optimizers.schedule(optimizer, total_steps=300)


SMALL = [*small_training.SMALL, "--epochs", 3]  # of 2 steps


def test_a_run_verifies_and_saves_by_passes_and_goes_on(tmp_path):
  words = [
    *SMALL, "--workdir", tmp_path, "--eval.every", "1ep",
    "--checkpoint.every", "1.5ep", "--checkpoint.keep", 9,
    "--optim.warmup", "1ep", "--optim.scale-by-batch", "linear",
    "--optim.reference-batch", 8,
  ]  # fmt: skip
  code, output = small_training.call(words)
  assert code == 0, output
  shown = " ".join(output.split())
  assert "learning rate 0.04 (0.02 x 16 / 8), cosine after 2 steps" in shown
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  found = [*map(json.loads, lines)]
  verified = [
    x["step"] for x in found if any(k.endswith("/accuracy") for k in x)
  ]
  assert verified == [2, 4, 6]
  rate = {x["step"]: x["learning_rate"] for x in found if "learning_rate" in x}
  assert rate[2] == pytest.approx(0.02) and rate[3] == pytest.approx(0.04)
  folders = (tmp_path / "checkpoints").glob("[0-9]*")
  saved = {int(path.name) for path in folders}
  assert saved == {2, 3, 4, 6}
  # The lengths of passes stay where they are in a longer run.
  code, output = small_training.call([*words, "--epochs", 4])
  assert code == 0 and "goes on to 8" in output, output


def test_a_warm_up_beyond_the_run_stops_before_anything_is_written(tmp_path):
  words = [*SMALL, "--workdir", tmp_path / "w", "--optim.head.warmup", "3ep"]
  code, output = small_training.call(words)
  assert code == 2 and "optim.head.warmup='3ep'" in output
  assert "6 steps, 3 passes over the images" in output
  assert not (tmp_path / "w").exists()


def test_a_folder_of_before_goes_on(tmp_path):
  new = config_lib.stored(parse("--workdir", tmp_path))
  old = dict(new)
  del old["optim.scale_by_batch"], old["optim.reference_batch"]
  (tmp_path / "config.json").write_text(json.dumps(old))
  assert folder.check(tmp_path, new) == old
  changed = {**new, "optim.warmup": "1ep"}
  with pytest.raises(ValueError, match="optim.warmup: 0.1 there, '1ep' here"):
    folder.check(tmp_path, changed)
  folder.check(tmp_path, {**new, "eval.every": "1ep"})


@pytest.mark.parametrize(("how", "factor"), [("linear", 4), ("sqrt", 2)])
def test_rates_by_the_batch(how, factor):
  own = config_lib.HeadOptimConfig(learning_rate=0.3)
  optim = config_lib.OptimConfig(
    learning_rate=0.1, scale_by_batch=how, reference_batch=128
  )
  found = optim.at_batch(512)
  assert found.learning_rate == pytest.approx(0.1 * factor)
  assert found.of_head().learning_rate == found.learning_rate
  both = dataclasses.replace(optim, head=own).at_batch(512)
  assert both.of_head().learning_rate == pytest.approx(0.3 * factor)
  assert both.learning_rate == found.learning_rate
  none = dataclasses.replace(optim, scale_by_batch="none")
  assert none.at_batch(512) is none


def test_a_dry_run_without_data_takes_any_length():
  config = parse(
    *SMALL, "--optim.warmup", "2ep", "--optim.schedule", "step",
    "--optim.milestones", "2.5ep", "--optim.head.warmup", "20000st",
  )  # fmt: skip
  by_steps = dataclasses.replace(config, epochs=None, steps=10)
  for one in (config, by_steps):
    [(_, program)] = dry_run.programs_of(one, 10)
    assert isinstance(program, build.Program)
