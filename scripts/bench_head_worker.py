"""A process of `bench_head_torch.py`, which works only when told to."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class Worker:
  """The process; it ends with `close`.

  Attributes:
    about: what it says of itself.
  """

  def __init__(
    self, options: Sequence[str], environment: Mapping[str, str] | None = None
  ):
    script = pathlib.Path(__file__).with_name("bench_head_torch.py")
    self._process = subprocess.Popen(
      [sys.executable, script, *options],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      # Threads without work must sleep: other methods are being measured.
      env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"} | (environment or {}),
    )
    self.about = self._answer()

  def step(self, rate: Any, repeats: int) -> dict[str, Any]:
    """Seconds a step and by how much memory has grown so far."""
    print("step", rate, repeats, file=self._process.stdin, flush=True)
    return self._answer()

  def _answer(self) -> dict[str, Any]:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"PyTorch ended, status {self._process.wait()}")
    return json.loads(line)

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()
