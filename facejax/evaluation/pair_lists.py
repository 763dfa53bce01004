"""The lists of pairs that commands know by name, and where LFW's lies."""

import os

from facejax.data import places
from facejax.data.pairs import protocols as formats

# Name of a command's protocol -> whose list of pairs it is.
LISTS = {"cfp": "cfp_fp", "xqlfw": "lfw", "mlfw": "agedb"} | {
  name: name for name in formats.PROTOCOLS
}


def lfw(pairs: str, path: str) -> tuple[str, str]:
  """View 2's list and the aligned images, where they are not given."""
  home = places.data_folder()
  return (
    pairs or os.path.join(home, "lfw_protocol", "pairs.txt"),
    path or os.path.join(home, "lfw_112"),
  )
