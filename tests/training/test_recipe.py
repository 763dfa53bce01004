"""Command lines: recipes, presets, overrides, and what mistakes say."""

import dataclasses
import pathlib

import pytest
from helpers import paths

from facejax.training import (
  config,
  config_checks,
  inputs,
  optimizers,
  presets,
  recipe,
)
from facejax.training.objectives import registry

RECIPES = {path.name for path in (paths.ROOT / "configs").glob("*.py")}
# Recipes whose loss has another name.
LOSS_OF = {
  "lvface": "cosface",
  "sphereface": "a_softmax",
  "am_softmax": "cosface",
  "subcenter_arcface": "arcface",
  "center": "softmax",
  "facenet": "triplet",
  "triplet_finetune": "triplet",
}


@pytest.mark.smoke
def test_all_recipes_are_found():
  assert {path.name for path in recipe.installed()} >= RECIPES


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_has_every_preset(name, preset):
  loaded = recipe.load(f"{name}:{preset}")
  config_checks.validate(loaded)
  stem = pathlib.Path(name).stem
  assert loaded.loss.name == LOSS_OF.get(stem, stem)
  assert preset in loaded.workdir
  rate = optimizers.schedule(loaded.optim, total_steps=10_000)
  assert max(float(rate(t)) for t in range(0, 10_000, 100)) == pytest.approx(
    loaded.optim.learning_rate, rel=1e-3
  )


def test_published_hyper_parameters():
  casia = recipe.load("arcface.py:casia_r50")
  assert (casia.steps, casia.batch_size) == (32_000, 512)
  assert (casia.loss.scale, casia.loss.margin) == (64, 0.5)
  rate = optimizers.schedule(casia.optim, total_steps=32_000)
  marks = (0, 19_999, 20_001, 27_999, 28_001)
  assert [round(float(rate(t)), 6) for t in marks] == [
    0.1, 0.1, 0.01, 0.01, 0.001,
  ]  # fmt: skip
  glint = recipe.load("cosface.py:glint360k_r100")
  assert (glint.loss.margin, glint.optim.weight_decay) == (0.4, 1e-4)
  wide = recipe.load("cosface.py:wf42m_r100")
  assert (wide.batch_size, wide.optim.learning_rate) == (4096, 0.4)


def test_overrides_win_over_the_recipe():
  command = recipe.parse(
    [
      "--config",
      "cosface.py:lfw",
      "--optim.learning-rate",
      "0.05",
      "--data.image-size",
      "48",
      "64",
      "--loss.margin",
      "0.1",
    ]
  )
  assert command.optim.learning_rate == 0.05
  assert command.data.image_size == (48, 64)
  assert command.loss == registry.CosFace(scale=32.0, margin=0.1)
  assert command.to_config().name == "cosface-lfw"
  assert type(command.to_config()) is config.Config


@pytest.mark.parametrize(
  ("flags", "steps", "epochs"),
  [("--steps 7", 7, None), ("--epochs 2.5", None, 2.5)],
)
def test_a_length_replaces_the_recipes(flags, steps, epochs):
  command = recipe.parse(flags.split())
  assert (command.steps, command.epochs) == (steps, epochs)


def test_a_path_means_a_folder_and_a_run_of_its_own():
  own = recipe.parse(["--data.path", "some/faces"])
  assert own.data.source == "folder"
  assert own.workdir == "runs/cosface-faces"
  named = recipe.parse(["--data.path", "some/faces", "--workdir", "w"])
  assert named.workdir == "w"
  assert recipe.parse([]).data.source == "synthetic"


def test_what_lies_at_a_path_is_looked_at_by_presets_too(tmp_path):
  (tmp_path / "train.rec").write_bytes(b"")
  words = ["--config", "cosface.py:ms1mv3_r50", "--data.path", str(tmp_path)]
  assert recipe.parse(words).data.source == "record_io"
  (tmp_path / "train.rec").unlink()
  assert recipe.parse(words).data.source == "folder"
  told = recipe.parse([*words, "--data.source", "record_io"])
  assert told.data.source == "record_io"


def test_fields_by_the_names_of_others_are_told(tmp_path):
  text = (
    "from facejax import config\n"
    "def get_config():\n  return config.Config(steps=1, {}=3)\n"
  )
  for given, hint in (
    ("lr", "optim.learning_rate"), ("batchsize", "batch_size"),
    ("stepz", "steps"),
  ):  # fmt: skip
    (tmp_path / "own.py").write_text(text.format(given))
    with pytest.raises(ValueError, match=rf"line 3: .*did you mean {hint}\?"):
      recipe.load(str(tmp_path / "own.py"))


def test_homes_in_recipes_are_found(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", "/home/ada")
  (tmp_path / "mine.py").write_text(
    "from facejax import config\n"
    "def get_config():\n"
    "  data = config.DataConfig(path='~/faces', join=('folder:~/more',))\n"
    "  return config.Config(steps=1, workdir='~/run', data=data)\n"
  )
  loaded = recipe.load(str(tmp_path / "mine.py"))
  assert loaded.workdir == "/home/ada/run"
  assert loaded.data.path == "/home/ada/faces"
  assert loaded.data.join == ("folder:/home/ada/more",)


def test_working_folder_comes_first(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  own = "from facejax import config\ndef get_config():\n  return config.Config"
  (tmp_path / "cosface.py").write_text(own + "(steps=3)")
  (tmp_path / "mine.py").write_text(own + "(steps=4, workdir='here')")
  (tmp_path / "unrelated.py").write_text("x = 1")
  assert recipe.load("cosface.py").steps == 3
  assert recipe.load("mine").workdir == "here"
  with pytest.raises(FileNotFoundError, match="mine.py") as caught:
    recipe.load("mime.py")
  assert "did you mean mine.py?" in str(caught.value)
  assert "unrelated.py" not in str(caught.value)
  with pytest.raises(ValueError, match="unrelated.py is not a recipe"):
    recipe.load("unrelated.py")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nosuch.py", "no recipe 'nosuch.py'.*arcface.py, center.py.*, nsl.py"),
    ("cosface.py:lwf", "preset 'lwf' is unknown: choose one of default, lfw"),
  ],
)
def test_unknown_names_list_the_known(name, message):
  with pytest.raises((FileNotFoundError, ValueError), match=message):
    recipe.load(name)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--optim.lerning-rate 0.1", "--optim.learning-rate"),
    ("--optim.learning-rate fast", "could not convert string to float"),
  ],
)
def test_mistakes_exit_with_one_message(flags, message, capsys):
  with pytest.raises(SystemExit) as caught:
    recipe.parse(flags.split())
  assert caught.value.code == 2
  assert message in capsys.readouterr().err


FILTER = "--head.interclass-filtering-threshold 0.4"


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--optim.learning-rate 0", r"optim.learning_rate=0.0 .* \(0, inf\)"),
    ("--batch-size 0", r"batch_size=0 is out of range: allowed is \[1, inf\)"),
    ("--model.dropout 1", r"model.dropout=1.0 .* \[0, 1\)"),
    ("--model.drop-path 1", r"model.drop_path=1.0 .* \[0, 1\)"),
    ("--model.mask-ratio 1", r"model.mask_ratio=1.0 .* \[0, 1\)"),
    ("--model.name mbf --model.se", "'mbf' has no se=True.*'iresnet50'"),
    ("--model.norm lrn", "'iresnet10_slim' has no norm='lrn'"),
    ("--data.image-size 100 112", "multiples of 16"),
    ("--loss.margin 3", r"loss.margin=3.0 .* cosface is \[0, 2\)"),
    ("--config arcface.py --loss.margin 3.2", r"arcface is \[0, 3.14"),
    ("--config sphereface.py --loss.margin 0", r"a_softmax is \[1, 10\]"),
    ("--config magface.py --loss.lower-norm 40", "below loss.upper_norm=30"),
    ("--config uniface.py --head.implementation sparse", "softmax losses"),
    (f"--config softmax.py {FILTER}", "prototypes of any length.*cosface"),
    (f"--config supcon.py {FILTER}", "images of a batch: leave it at 0"),
    (f"--config proxy_anchor.py {FILTER}", "is no such sum: leave it at 0"),
    (f"--head.implementation pallas {FILTER}", "=0.4: the kernels.*use fused"),
    ("--config supcon.py --batch-size 100", r"32 x 4 \+ 0 = 128"),
    (
      "--config facenet.py --data.identities-per-batch 0",
      "give data.identities_per_batch",
    ),
    (
      "--config facenet.py --center.weight 0.1",
      "goes with a loss over classes",
    ),
    ("--model.name nn1", "220"),
    ("--model.name iresnet51", "model.name=iresnet51.*did you mean iresnet50"),
    ("--model.name vitt", "did you mean vit_t"),
    (
      "--model.name nowhere.at_all:net",
      "No module named 'nowhere'.*PYTHONPATH",
    ),
    ("--model.name json:no_net", "no attribute 'no_net'"),
    ("--model.name json:decoder", "is a module: name a function or a class"),
    ("--config adaface.py --model.name nn4", "length 1"),
    ("--loss.name arcface", r"a recipe with flags of its own.*arcface\.py"),
    ("--model.dtype float64 --head.storage bfloat16", "double precision"),
    ("--data.source folder", "data.path is empty"),
    ("--steps 5 --epochs 5", "exactly one"),
    ("--optim.schedule step", "increasing shares"),
    ("--optim.schedule step --optim.milestones 0.5 0.2", "increasing shares"),
    ("--optim.learning-rate nan", "out of range"),
    ("--eval.threshold-pairs x.txt", "needs eval.pairs"),
  ],
)
def test_values_out_of_range_name_field_value_and_range(flags, message):
  with pytest.raises(ValueError, match=message):
    recipe.parse(flags.split())


def test_missing_data_set_names_the_variable(monkeypatch):
  monkeypatch.setenv("FACEJAX_DATA", "/nowhere")
  lfw = recipe.parse(["--config", "cosface.py:lfw"]).to_config()
  with pytest.raises(FileNotFoundError, match="/nowhere/lfw_112.*FACEJAX_DATA"):
    inputs.training_images(lfw)


def test_help_teaches(capsys):
  with pytest.raises(SystemExit) as caught:
    recipe.parse(["--help"])
  assert caught.value.code == 0
  text = capsys.readouterr().out
  for words in ("Examples:", "--config cosface.py:lfw", "--dry-run", "75"):
    assert words in text


def test_help_shows_ranges_and_no_comments(capsys):
  with pytest.raises(SystemExit):
    recipe.parse(["--config", "cosface.py:lfw", "--help"])
  text = " ".join(capsys.readouterr().out.replace("│", " ").split())
  for words in (
    "--loss.margin FLOAT m, a difference of cosines. (default: 0.3; in [0, 2))",
    "--head.block-size {None}|INT",
    "--optim.ema FLOAT",
    "Random changes of the training images",
    "The net that makes embeddings of images.",
    "such as train[:90%].",
  ):
    assert words in text
  assert "noqa" not in text


def test_old_recipes_find_their_names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "old.py").write_text(
    "import dataclasses\n"
    "from facejax import config, model_config, pair_loss_config, presets\n"
    "LOSS = pair_loss_config.Triplet(margin=0.3)\n"
    "def get_config(preset='default'):\n"
    "  assert preset in presets.PRESETS and presets.data_folder()\n"
    "  base = dataclasses.replace(presets.scale(preset), loss=LOSS,\n"
    "    model=model_config.ModelConfig(name='iresnet18'))\n"
    "  return presets.identities(base, 8, 4)\n"
  )
  loaded = recipe.load("old.py:lfw")
  config_checks.validate(loaded)
  assert loaded.loss == registry.Triplet(margin=0.3)
  assert config.flatten(loaded)["loss.name"] == "triplet"


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--lr 0.1", "there is no --lr; did you mean --optim.learning-rate?"),
    ("--optim.lr_base=0.1", "did you mean --optim.learning-rate?"),
    ("--network r50", "did you mean --model.name?"),
    ("--margin 0.4", "did you mean --loss.margin?"),
    ("--num_workers 4", "did you mean --data.workers?"),
    ("--output x", "did you mean --workdir?"),
    ("--momentum 0.9", "did you mean --optim.momentum?"),
    ("--resume", "the same command again"),
    ("--model.name R50", "--model.name R50: did you mean iresnet50?"),
    ("--model.name=IR_SE_50", "did you mean iresnet50?"),
    ("--model.dtype fp16", "did you mean bfloat16?"),
    ("--config arcface_torch", "did you mean arcface.py?"),
    ("--config ArcFace", "did you mean arcface.py?"),
    ("--config configs/ms1mv3_r50", "did you mean cosface.py:ms1mv3_r50?"),
    ("--config r50", "a net is chosen by --model.name iresnet50"),
    (
      "--config cosface.py:r50",
      "webface4m_r50 or hsface_r50 or vface_r50 or ms1mv3_r50 or casia_r50?",
    ),
    # As many as the recipe has: no flag is passed over.
    ("--steps 7 --epochs 3", "--steps 7 and --epochs 3"),
  ],
)
def test_names_of_other_trainers_get_suggestions(flags, message):
  with pytest.raises((ValueError, FileNotFoundError)) as caught:
    recipe.parse(flags.split())
  assert message in str(caught.value)


def test_no_length_is_one_that_may_stand_beside_another():
  command = recipe.parse(["--steps", "None", "--epochs", "3"])
  assert (command.steps, command.epochs) == (None, 3)


OWN = "from facejax import config\ndef get_config():\n  return "


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (OWN + "(", r"mine.py, line 3: SyntaxError"),
    ("import no_such_module", r"mine.py, line 1: ModuleNotFoundError.*no_such"),
    (OWN + "config.Config(step=3)", r"line 3: TypeError.*did you mean steps?"),
    (OWN + "1 / 0", r"line 3: ZeroDivisionError: division by zero"),
    ("x = 1\0", r"mine.py: SyntaxError"),
    (OWN + "config.Config(steps='3')", r"mine.py: steps='3' is none"),
    (OWN + "config.Config(steps=3, optim=None)", "optim=None.*OptimConfig"),
    (OWN + "config.Config(steps=3, batch_size=1.5)", "batch_size=1.5.*int"),
    (
      OWN + "config.Config(optim=config.OptimConfig(schedule='poly'))",
      "optim.schedule='poly'.*polynomial",
    ),
  ],
)
def test_mistakes_in_a_recipe_are_told_with_their_line(
  tmp_path, monkeypatch, text, message
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text(text)
  with pytest.raises(ValueError, match=message):
    recipe.load("mine")


@pytest.mark.parametrize(
  ("alias", "options"),
  [
    ("r18", {"name": "iresnet18"}),
    ("r200", {"name": "iresnet200"}),
    ("mbf", {"name": "mbf"}),
    ("vit_t_dp005_mask0", {"name": "vit_t", "drop_path": 0.05}),
    (
      "vit_b_dp005_mask_005",
      {"name": "vit_b", "drop_path": 0.05, "mask_ratio": 0.05},
    ),
  ],
)
def test_nets_by_the_names_of_the_field(alias, options, tmp_path):
  base = recipe.parse(["--data.image-size", "112", "112"])
  words = ["--model.name", alias, "--data.image-size", "112", "112"]
  wanted = dataclasses.replace(base.model, **options)
  assert recipe.parse(words).model == wanted
  # A run that was begun by one name goes on by the other.
  assert config.stored(recipe.parse(words))["model.name"] == options["name"]
  (tmp_path / "mine.py").write_text(
    "from facejax import config, model_config\n"
    "def get_config():\n  return config.Config(steps=1,"
    f" model=model_config.ModelConfig(name='{alias}'))\n"
  )
  loaded = recipe.load(str(tmp_path / "mine.py")).model
  assert (loaded.name, loaded.drop_path) == (wanted.name, wanted.drop_path)
  more = recipe.parse([*words, "--model.embedding-dim", "64"])
  assert more.model.embedding_dim == 64


def test_an_option_wins_over_that_of_an_alias():
  words = "--model.name vit_t_dp005_mask0 --model.drop-path 0.2"
  size = ["--data.image-size", "112", "112"]
  assert recipe.parse([*words.split(), *size]).model.drop_path == 0.2


def test_help_is_of_words(capsys):
  with pytest.raises(SystemExit, match="0"):
    recipe.parse(["--help"])
  shown = capsys.readouterr().out
  assert "The net that makes embeddings" in shown
  assert "noqa" not in shown and "%%" not in shown
