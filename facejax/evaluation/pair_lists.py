"""The lists of pairs that commands know by name, and where LFW's lies."""

import os

from facejax.data import places

# Name of a command's protocol -> whose list of pairs it is.
LISTS = {"cfp": "cfp_fp"} | {
  name: name for name in ("lfw", "cfp_fp", "cfp_ff", "agedb", "calfw", "cplfw")
}


def lfw(pairs: str, path: str) -> tuple[str, str]:
  """View 2's list and the aligned images, where they are not given."""
  home = places.data_folder()
  return (
    pairs or os.path.join(home, "lfw_protocol", "pairs.txt"),
    path or os.path.join(home, "lfw_112"),
  )
