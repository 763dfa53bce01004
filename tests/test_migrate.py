"""Recipes of arcface_torch become commands; the page's rows name our flags."""

import re
import shlex

import pytest
from helpers import paths

from facejax import migrate, train
from facejax.interchange import settings_file
from facejax.training import config as config_lib
from facejax.training import recipe

BASE = """
from easydict import EasyDict as edict
config = edict()
config.margin_list = (1.0, 0.5, 0.0)
config.network = "r50"
config.resume = False
config.embedding_size = 512
config.sample_rate = 1
config.momentum = 0.9
config.seed = 1000
config.frequent = 30
"""
MS1MV3 = """
from easydict import EasyDict as edict
config = edict()
config.margin_list = (1.0, 0.5, 0.0)
config.network = "r50"
config.output = None
config.fp16 = True
config.weight_decay = 5e-4
config.batch_size = 128
config.lr = 0.1
config.verbose = 2000
config.rec = "/data/ms1m-retinaface"
config.num_classes = 93_431
config.num_image = 5_179_510
config.num_epoch = 20
config.warmup_epoch = 0
config.val_targets = ["lfw", "cfp_fp"]
"""
GLINT = """
from easydict import EasyDict as edict
config = edict()
config["margin_list"] = (1.0, 0.0, 0.4)
config.network = "r100"
config.save_all_states = True
config.output = "out"
config.sample_rate = 1.0
config.fp16 = True
config.weight_decay = 1e-4
config.lr = 0.1
config.rec = "/data/glint360k"
config.num_epoch = 20
config.val_targets = []
config.using_wandb = True
config.wandb_key = "XX"
"""
VIT = """
from easydict import EasyDict as edict
config = edict(margin_list=(1.0, 0.0, 0.4))
config.network = "vit_b_dp005_mask_005"
config.sample_rate = 0.3
config.interclass_filtering_threshold = 0.4
config.fp16 = True
config.weight_decay = 0.1
per_gpu: int = 2 * 128
config.batch_size = per_gpu
config.gradient_acc = 12
config.optimizer = "adamw"
config.lr = 0.001
config.rec = "/data/WebFace42M"
config.num_epoch = 40
config.warmup_epoch = config.num_epoch // 10
config.val_targets = []
config.dali = True
config.colour = "blue"
"""
FILES = {
  "ms1mv3_r50": MS1MV3,
  "glint360k_r100": GLINT,
  "wf42m_pfc02_vit_b": VIT,
}


def write(folder, name, text, *, base=None):
  path = folder / f"{name}.py"
  path.write_text(text)
  if base:
    (folder / "base.py").write_text(base)
  return path


def shell(text):
  """The words of a command as a shell has them: comments are none of it."""
  return shlex.split(text.replace("\\\n", " "), comments=True)


def migrated(capsys, *arguments):
  """What is printed, and the configuration that its command has."""
  assert migrate.main(list(map(str, arguments))) == 0
  text = capsys.readouterr().out
  words = shell(text)
  assert words[:3] == ["python", "-m", "facejax.train"]
  return text, config_lib.flatten(recipe.parse(words[3:]).to_config())


EXPECTED = {
  "ms1mv3_r50": {
    "name": "arcface-ms1mv3_r50",
    "loss.name": "arcface",
    "loss.scale": 64.0,
    "loss.margin": 0.5,
    "loss.gradient": "detached",
    "loss.guard": "none",
    "model.name": "iresnet50",
    "model.dtype": "bfloat16",
    "model.bn_group": 128,
    "batch_size": 1024,
    "epochs": 20.0,
    "steps": None,
    "head.implementation": "fused",
    "head.precision": "bfloat16",
    "optim.name": "sgd",
    "optim.learning_rate": 0.1,
    "optim.weight_decay": 5e-4,
    "optim.schedule": "linear",
    "optim.warmup": 0.0,
    "data.source": "record_io",
    "data.path": "/data/ms1m-retinaface",
    "eval.pairs": (
      "/data/ms1m-retinaface/lfw.bin",
      "/data/ms1m-retinaface/cfp_fp.bin",
    ),
    "eval.every": 2000,
    "log_every": 30,
    "seed": 1000,
    "workdir": "runs/ms1mv3_r50",
  },
  "glint360k_r100": {
    "name": "cosface-glint360k_r100",
    "loss.name": "cosface",
    "loss.margin": 0.4,
    "model.name": "iresnet100",
    "optim.weight_decay": 1e-4,
    "checkpoint.every": "1ep",
    "eval.pairs": ("none",),
    "track": ("wandb",),
    "workdir": "out",
  },
  "wf42m_pfc02_vit_b": {
    "loss.name": "cosface",
    "loss.margin": 0.4,
    "model.name": "vit_b",
    "model.drop_path": 0.05,
    "model.mask_ratio": 0.05,
    "model.bn_group": 256,
    "batch_size": 256 * 8 * 12,
    "accumulate": 12,
    "head.implementation": "partial_fc",
    "head.rate": 0.3,
    "head.interclass_filtering_threshold": 0.4,
    "optim.name": "adamw",
    "optim.learning_rate": 0.001,
    "optim.weight_decay": 0.1,
    "optim.epsilon": 1e-8,
    "optim.schedule": "linear",
    "optim.warmup": "4ep",
    "eval.every": 2000 // 12,
  },
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_is_the_recipe(tmp_path, capsys, name):
  path = write(tmp_path, name, FILES[name], base=BASE)
  text, config = migrated(capsys, path)
  assert {key: config[key] for key in EXPECTED[name]} == EXPECTED[name]
  assert "batch_size" in text  # what differs is said


def test_print_config_accepts_it(tmp_path, capsys):
  path = write(tmp_path, "ms1mv3_r50", MS1MV3)
  migrate.main([str(path)])
  words = shell(capsys.readouterr().out)[3:]
  assert train.main([*words, "--print-config"]) == 0
  assert '"model.name": "iresnet50"' in capsys.readouterr().out


def test_unknown_settings_are_said(tmp_path, capsys):
  path = write(tmp_path, "wf42m_pfc02_vit_b", VIT)
  text, _ = migrated(capsys, path)
  assert "colour = 'blue'" in text
  assert "wandb_key" not in text


def test_gpus_and_place(tmp_path, capsys):
  path = write(tmp_path, "wf12m_16gpus_r50", MS1MV3)
  _, config = migrated(capsys, path, "--path", "mine")
  assert config["batch_size"] == 128 * 16
  assert config["data.path"] == "mine"
  assert config["eval.pairs"] == ("mine/lfw.bin", "mine/cfp_fp.bin")
  _, config = migrated(capsys, path, "--gpus", "1")
  assert config["batch_size"] == 128
  assert config["model.bn_group"] == 0  # one GPU: the whole batch


@pytest.mark.parametrize(
  ("line", "words"),
  [
    ("config.network = 'r2060'", ["r2060", "r100"]),
    ("config.optimizer = 'lamb'", ["lamb", "sgd and adamw"]),
    ("config.margin_list = (1.0, 0.5)", ["margin_list", "(m1, m2, m3)"]),
    ("config.margin_list = (0.9, 0.4, 0.0)", ["combined.py"]),
    ("config.batch_size = 'many'", ["batch_size='many'", "number"]),
    ("config.rec = None", ["config.rec", "missing"]),
    ("config.sample_rate = 0", ["head.rate"]),
    ("config.lr = open('x')", ["line 20", "open('x')", "without running"]),
    ("if True: pass", ["line 20", "without running"]),
    ("config.lr = 'a' * 10 ** 9", ["line 20", "without running"]),
    ("config.lr = 1 / 0", ["line 20", "division by zero"]),
    ("config.lr = config.no_such", ["line 20", "nothing above it"]),
    ("config.lr = ", ["line 20"]),
  ],
)
def test_what_cannot_be_taken_over(tmp_path, capsys, line, words):
  path = write(tmp_path, "bad", MS1MV3.rstrip() + "\n" * 3 + line)
  assert migrate.main([str(path)]) == 2
  answer = capsys.readouterr().err
  assert str(path) in answer
  for word in words:
    assert word in answer


def test_a_file_is_never_run(tmp_path, capsys):
  place = tmp_path / "was_run"
  text = f"{MS1MV3}\n__import__('pathlib').Path({str(place)!r}).touch()\n"
  assert migrate.main([str(write(tmp_path, "bad", text))]) == 2
  assert not place.exists()


def test_a_missing_file_is_named(tmp_path, capsys):
  assert migrate.main([str(tmp_path / "none.py")]) == 2
  assert "none.py" in capsys.readouterr().err


def test_joined_texts_and_dictionaries_are_read(tmp_path):
  path = write(
    tmp_path,
    "c",
    "root = '/data'\nconfig = {'lr': -0.5, 'names': ['a'] + ['b']}\n"
    "config.rec = root + '/faces'\nimport os\n"
    "config.place = os.path.join(config.rec, 'x')\n"
    "config.second = config.names[1]\n",
  )
  found = settings_file.read(path, {"lr": 1, "seed": 3})
  assert {name: one.value for name, one in found.items()} == {
    "lr": -0.5,
    "seed": 3,
    "names": ["a", "b"],
    "rec": "/data/faces",
    "place": "/data/faces/x",
    "second": "b",
  }
  assert found["seed"].line == 0 and found["rec"].line == 3


def rows():
  """The cells of every table of the page, without the lines that head them."""
  text = (paths.ROOT / "docs" / "migrating.md").read_text()
  for line in text.splitlines():
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    if len(cells) == 3 and cells[0].strip(" -") not in ("", "there"):
      yield [cell.strip() for cell in cells]


def test_every_row_names_a_flag_of_help(capsys):
  found = list(rows())
  assert len(found) > 70
  for path in recipe.installed():
    with pytest.raises(SystemExit):
      recipe.parse(["--config", path.name, "--help"])
  known = set(re.findall(r"--[a-z][a-z0-9.-]*", capsys.readouterr().out))
  for there, here, differs in found:
    flags = re.findall(r"--[a-z][a-z0-9.-]*", here)
    assert flags, f"{there}: {here} names no flag"
    assert set(flags) <= known, f"{there}: {set(flags) - known}"
    assert differs, there
