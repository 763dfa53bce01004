"""Files for TensorBoard, by tensorboardX."""

import os
import sys
from typing import Any


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
