"""Files for TensorBoard, by tensorboardX."""

import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from facejax.runtime import whole_files


def writer(folder: str | os.PathLike[str], **options: Any) -> Any:
  """Returns a tensorboardX.SummaryWriter for a folder.

  Where PyTorch is installed, tensorboardX imports it for the sake of tensors
  that nobody here has: two seconds of every start. So it does not find it.
  """
  hidden = "torch" not in sys.modules
  if hidden:
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
  try:
    import tensorboardX
  finally:
    if hidden:
      del sys.modules["torch"]
  return tensorboardX.SummaryWriter(os.fspath(folder), **options)


class Scalars:
  """Curves of a run.

  Args:
    folder: for them.
    **options: of tensorboardX.SummaryWriter.
  """

  def __init__(self, folder: str | os.PathLike[str], **options: Any):
    self._folder = folder
    with whole_files.naming(folder):
      self._writer = writer(folder, **options)

  def add(self, step: int, kind: str, scalars: Mapping[str, float]) -> None:
    """Adds a point to the curves "KIND/NAME", at once on its way to the disk."""
    with whole_files.naming(self._folder):
      for name, value in scalars.items():
        if math.isfinite(value):
          self._writer.add_scalar(f"{kind}/{name}", value, step)
      self._writer.flush()

  def close(self) -> None:
    """Closes the files."""
    with whole_files.naming(self._folder):
      self._writer.close()
