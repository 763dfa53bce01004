"""Where data sets are looked for that are asked for by name."""

import os


def data_folder() -> str:
  """The folder that FACEJAX_DATA names; `data` in the working folder if none."""
  return os.path.expanduser(os.environ.get("FACEJAX_DATA", "data"))
