"""The flags of facejax.train as argparse has them, for shells to complete."""

from facejax.runtime import command_line
from facejax.training import names as names_lib
from facejax.training import recipe


def parser() -> command_line.Parser:
  """A parser with the flags of all installed recipes.

  It is no second command line: tyro reads the flags, each loss with its own.
  """
  parser = command_line.parser("train", "Trains a face embedding.")
  names = [path.stem for path in recipe.installed()]
  seen: set[str] = set()
  for name in names:
    command = recipe.TrainCommand(**vars(recipe.load(name)), config=name)
    for flags, choices in names_lib.flags(command):
      if flags[0] in seen:
        continue
      seen.add(flags[0])
      if flags[0] == "--config":
        choices = tuple(f"{name}.py" for name in names)
      if len(flags) > 1:
        parser.add_argument(*flags, action="store_true")
      else:
        parser.add_argument(*flags, choices=choices)
  return parser
