"""tracked.json: by what name the trackers of others know a run.

`{"wandb": "1f0c…", "mlflow": "9a3b…"}`: a start that goes on continues the same
runs there.
"""

import logging
import os
import pathlib
from collections.abc import Mapping

from facejax.runs import folder
from facejax.runtime import json_files

logger = logging.getLogger(__name__)


def read(run: str | os.PathLike[str]) -> dict[str, str]:
  """Names by tracker; {} where nothing was tracked.

  A damaged file is named in the log: the trackers then begin runs of their own.
  """
  path = pathlib.Path(run, folder.TRACKED)
  try:
    found = json_files.read_or_none(path) or {}
  except ValueError as error:
    logger.warning("%s", error)
    return {}
  return {name: str(value) for name, value in found.items()}


def write(run: str | os.PathLike[str], names: Mapping[str, str]) -> None:
  """Keeps them in the folder of a run, whole or not at all.

  Raises:
    OSError: if it cannot be written.
  """
  json_files.write(pathlib.Path(run, folder.TRACKED), names)
