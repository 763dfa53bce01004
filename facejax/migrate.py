"""Takes a recipe over: python -m facejax.migrate configs/ms1mv3_r50.py."""

import difflib
import pathlib
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from facejax.interchange import settings_file
from facejax.runtime import command_line
from facejax.training import config as config_lib
from facejax.training import migration, presets, recipe

_DESCRIPTION = """Prints the facejax command of a recipe of arcface_torch.

CONFIG is one of the files that InsightFace's arcface_torch trains by
(config.margin_list, config.network ...); base.py beside it says what it leaves
open, as there. The file is read, never run. What is printed is a shell command,
after comments that say what differs; docs/migrating.md has it option by option,
and those of CVLface, AdaFace, facenet and pytorch-metric-learning.

Examples:
  python -m facejax.migrate configs/ms1mv3_r50.py
      eight GPUs there, as its README starts it
  python -m facejax.migrate configs/wf42m_pfc02_r100.py --gpus 32
      on 32 GPUs: their batches together are one here
  python -m facejax.migrate configs/glint360k_r100.py --path glint_records \\
      > train.sh && sh train.sh
      where the images lie on this machine

Exit codes: 0 printed; 2 bad input, or something that cannot be had here."""

_GPUS = 8
_WIDTH = 76


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  path = pathlib.Path(args.config)
  settings = _settings(path)
  if args.path:
    settings["rec"] = settings_file.Setting(args.path)
  gpus = args.gpus or migration.gpus(path) or _GPUS
  try:
    found = migration.translate(
      {name: one.value for name, one in settings.items()},
      name=path.stem,
      gpus=gpus,
    )
    words = shortest(found, path.stem)
    recipe.parse(words)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None
  for note in found.notes:
    print(textwrap.fill(note, _WIDTH, **_COMMENT))
  print(_shell(words))
  return 0


_COMMENT: Mapping[str, Any] = {
  "initial_indent": "# ",
  "subsequent_indent": "#   ",
  "break_on_hyphens": False,
}


def _settings(path: pathlib.Path) -> dict[str, settings_file.Setting]:
  """Those of the file over those of base.py beside it, if it lies there."""
  base = path.parent / "base.py"
  defaults = {}
  if base.is_file() and path.name != base.name:
    found = settings_file.read(base)
    defaults = {name: one.value for name, one in found.items()}
  return settings_file.read(path, defaults)


def shortest(found: migration.Translation, name: str) -> list[str]:
  """The words of the command, from the preset that needs the fewest flags.

  Args:
    found: what it is to be.
    name: among presets that need as few, the one most like this is taken.
  """
  commands = {}
  for preset in presets.PRESETS:
    if preset not in presets.SMALL:
      config = f"{found.recipe}:{preset}"
      base = config_lib.flatten(recipe.load(config))
      commands[preset] = ["--config", config, *_flags(found.fields, base)]

  def cost(preset: str) -> tuple[int, float]:
    alike = difflib.SequenceMatcher(None, preset, name).ratio()
    return len(commands[preset]), -alike

  return commands[min(commands, key=cost)]


# A preset's are of its own data, wherever that lies.
_ALWAYS = ("data.path", "eval.pairs")


def _flags(fields: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
  """Flags for the fields that differ from a preset's."""
  words = []
  for name, value in fields.items():
    # The length that is given replaces the other.
    if value is None or (base[name] == value and name not in _ALWAYS):
      continue
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
      before, dot, last = name.replace("_", "-").rpartition(".")
      words.append(flag if value else f"--{before}{dot}no-{last}")
    elif isinstance(value, tuple):
      words += [flag, *map(str, value)]
    else:
      words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
  return words


def _shell(words: Sequence[str]) -> str:
  """As lines of a shell script, a flag each."""
  lines = ["python -m facejax.train"]
  for word in map(shlex.quote, words):
    if word.startswith("--"):
      lines.append(f"  {word}")
    else:
      lines[-1] += f" {word}"
  return " \\\n".join(lines)


def parser() -> command_line.Parser:
  """The parser of the command line."""
  parser = command_line.parser("migrate", _DESCRIPTION)
  parser.add_argument(
    "config", metavar="CONFIG", help="a config file of arcface_torch"
  )
  parser.add_argument(
    "--gpus",
    type=command_line.number(int, 1, 1 << 20),
    metavar="N",
    help="GPUs that it ran on there (what the file's name says, or 8)",
  )
  parser.add_argument(
    "--path", help="where the images lie here (what config.rec says)"
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
