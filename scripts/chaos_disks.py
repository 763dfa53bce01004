"""Faults of disks and of what lies on them, for `chaos.py`.

As in `chaos_faults`; None where only root may do it.
"""

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
  """A disk of few MiB is full while a checkpoint or the log is written."""
  disk = folder / "disk"
  disk.mkdir()
  size = f"{rng.randint(30, 90)}M"
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
    capture_output=True,
  )
  if done.returncode:
    return None  # only root may
  try:
    run = world.Run(disk / "run")
    began = time.monotonic()
    codes = run.codes()
    seconds = time.monotonic() - began
    told = run.said("No space left on device|[Dd]isk quota|full")
    trace = run.said("Traceback")
    whole = world.whole_steps(disk / "run")
    text = f"ended with {codes[0]}, told: {told}, whole checkpoints: {whole}"
    # With room again, the same command goes on.
    subprocess.run(
      ["mount", "-o", "remount,size=1G", disk], check=True, capture_output=True
    )
    again = world.Run(disk / "run")
    same = again.codes() == [_DONE] and world.same_curve(disk / "run", calm)
    text += f"; with room again, as a calm run: {same}"
  finally:
    subprocess.run(["umount", "-l", disk], capture_output=True)
  ok = codes == [_MISTAKE] and told and not trace and same
  return world.Outcome(f"a disk of {size} is full", text, seconds, ok)


def read_only(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """The work folder becomes read-only while the run is at work."""
  disk = folder / "disk"
  disk.mkdir()
  done = subprocess.run(
    ["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True
  )
  if done.returncode:
    return None  # only root may
  try:
    run = world.Run(disk / "run")
    run.wait_for_step(rng.randint(3, 10))
    began = time.monotonic()
    # Fails while files are open for writing: lazily forced.
    subprocess.run(
      ["mount", "-o", "remount,ro", disk], capture_output=True, check=False
    )
    codes = run.codes()
    seconds = time.monotonic() - began
    told = run.said("Read-only file system")
    subprocess.run(
      ["mount", "-o", "remount,rw", disk], check=True, capture_output=True
    )
    again = world.Run(disk / "run")
    same = again.codes() == [_DONE] and world.same_curve(disk / "run", calm)
  finally:
    subprocess.run(["umount", "-l", disk], capture_output=True)
  text = f"ended with {codes[0]}; writable again, as a calm run: {same}"
  refused = codes == [_DONE]  # the system kept it writable: nothing happened
  ok = same and (refused or (codes[0] == _MISTAKE and told))
  return world.Outcome("the work folder becomes read-only", text, seconds, ok)


def bad_images(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """Image files are damaged while they are trained on."""
  del calm
  photos = _photos(folder / "photos")
  run = world.Run(
    folder / "run",
    *("--data.source", "folder", "--data.path", folder / "photos"),
    *("--data.max-bad-share", 0.5, "--steps", 30),
  )
  run.wait_for_step(rng.randint(2, 6))
  began = time.monotonic()
  for path in rng.sample(photos, 4):
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
  codes = run.codes()
  named = len(set(re.findall(r"replaced by \S+: (\S+)", run.outputs[0])))
  return world.Outcome(
    "4 of 40 image files are truncated during an epoch",
    f"ended with {codes[0]}; {named} named and replaced",
    time.monotonic() - began,
    codes == [_DONE] and named >= 1,
  )


def _photos(folder: pathlib.Path) -> list[pathlib.Path]:
  """Ten people, four files each."""
  draw = np.random.default_rng(0)
  paths = []
  for person in range(10):
    (folder / f"person{person}").mkdir(parents=True)
    for k in range(4):
      path = folder / f"person{person}" / f"{k}.png"
      pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(path)
      paths.append(path)
  return paths
