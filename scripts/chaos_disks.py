"""Faults of disks and of what lies on them, for `chaos.py`.

As in `chaos_faults`; None where only root may do it.
"""

import contextlib
import ctypes
import pathlib
import random
import re
import subprocess
import time
from collections.abc import Mapping

import chaos_world as world
import numpy as np
from PIL import Image

Calm = Mapping[int, float]
_DONE, _MISTAKE = 0, 2


def disk_full(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """A disk is full while the run begins, logs, saves or reports."""
  disk = folder / "disk"
  disk.mkdir()
  # A run that nothing happens to takes about 640 KiB in the end.
  size = f"{rng.randint(40, 480)}k"
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
    capture_output=True,
  )
  if done.returncode:
    return None  # only root may
  try:
    run = world.Run(disk / "run", logs=folder)
    began = time.monotonic()
    codes = run.codes()
    seconds = time.monotonic() - began
    told = run.said("No space left on device")
    trace = run.said("Traceback")
    whole = world.whole_steps(disk / "run")
    text = f"ended with {codes[0]}, told: {told}, whole checkpoints: {whole}"
    # With room again, the same command goes on.
    subprocess.run(
      ["mount", "-o", "remount,size=1G", disk], check=True, capture_output=True
    )
    again = world.Run(disk / "run", logs=folder)
    same = again.codes() == [_DONE] and world.same_curve(disk / "run", calm)
    text += f"; with room again, as a calm run: {same}"
  finally:
    subprocess.run(["umount", "-l", disk], capture_output=True)
  ok = codes == [_MISTAKE] and told and not trace and same
  return world.Outcome(f"a disk of {size} is full", text, seconds, ok)


def read_only(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """Nothing may be written in the work folder any more, while it is at work."""
  workdir = folder / "run"
  step = rng.randint(3, 10)
  slow = {"fault": "slow", "seconds": 0.1}
  run = world.Run(workdir, chaos=slow, preexec_fn=_obey_permissions)
  run.wait_for_step(step)
  # What must survive; on a busy machine it is written only now.
  run.wait_for_checkpoint()
  began = time.monotonic()
  _permit(workdir, writing=False)
  codes = run.codes()
  seconds = time.monotonic() - began
  told = run.said("Permission denied")
  trace = run.said("Traceback")
  before = world.whole_steps(workdir)
  refused = world.Run(workdir, preexec_fn=_obey_permissions)
  codes += refused.codes()
  told = told and refused.said("no permission to write")
  _permit(workdir, writing=True)
  again = world.Run(workdir)
  same = again.codes() == [_DONE] and world.same_curve(workdir, calm)
  text = f"ended with {codes[0]}, the next start with {codes[1]}"
  text += f", each with the reason: {told}; whole checkpoints: {before}"
  text += f"; writable again, as a calm run: {same}"
  ok = codes == [_MISTAKE] * 2 and told and not trace and bool(before) and same
  return world.Outcome(
    f"the work folder becomes read-only after step {step}", text, seconds, ok
  )


def _permit(folder: pathlib.Path, *, writing: bool) -> None:
  """Sets the permissions of all folders in a folder, its own included."""
  for one in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
    with contextlib.suppress(FileNotFoundError):  # a checkpoint's, renamed
      one.chmod(0o755 if writing else 0o555)


def _obey_permissions() -> None:
  """Takes from root, who runs this, the right to write everywhere."""
  drop, override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
  ctypes.CDLL(None).prctl(drop, override)


def bad_images(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """Image files are damaged while they are trained on."""
  del calm
  photos = _photos(folder / "photos")
  run = world.Run(
    folder / "run",
    *("--data.source", "folder", "--data.path", folder / "photos"),
    *("--data.max-bad-share", 0.5, "--steps", 40),
    # What is verified on must be whole, and is read once more at the end.
    *("--eval.hold-out", 0),
    chaos={"fault": "slow", "seconds": 0.1},
  )
  run.wait_for_step(rng.randint(2, 6))
  began = time.monotonic()
  for path in rng.sample(photos, 100):
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
  codes = run.codes()
  named = len(set(re.findall(r"replaced by \S+: (\S+)", run.outputs[0])))
  return world.Outcome(
    "100 of 400 image files are truncated during an epoch",
    f"ended with {codes[0]}; {named} named and replaced",
    time.monotonic() - began,
    codes == [_DONE] and named >= 1,
  )


def _photos(folder: pathlib.Path) -> list[pathlib.Path]:
  """Forty people, ten files each."""
  draw = np.random.default_rng(0)
  paths = []
  for person in range(40):
    (folder / f"person{person}").mkdir(parents=True)
    for k in range(10):
      path = folder / f"person{person}" / f"{k}.png"
      pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(path)
      paths.append(path)
  return paths
