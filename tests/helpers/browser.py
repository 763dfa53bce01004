"""A page as a real browser shows it; tests that use it skip without one."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CONSOLE = re.compile(r":CONSOLE:\d+\] (.*)")


@dataclasses.dataclass(frozen=True)
class View:
  """What became of a page: its DOM, its console, its requests, its looks."""

  dom: str
  console: list[str]
  requests: list[str]
  pixels: np.ndarray


def view(
  page: pathlib.Path,
  folder: pathlib.Path,
  *,
  size: tuple[int, int] = (1280, 2000),
  dark: bool = False,
) -> View:
  """Opens a file in headless Chromium, without a network."""
  program = next(filter(None, map(shutil.which, _NAMES)), None)
  if program is None:
    pytest.skip("no chromium; Debian: apt-get install chromium")
  folder.mkdir(parents=True, exist_ok=True)
  log, shot = folder / "net.json", folder / "page.png"
  done = subprocess.run(
    [
      program,
      *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
      *("--disable-background-networking", "--hide-scrollbars"),
      "--host-resolver-rules=MAP * ~NOTFOUND",
      f"--blink-settings=preferredColorScheme={0 if dark else 1}",
      f"--user-data-dir={folder / 'profile'}",
      f"--window-size={size[0]},{size[1]}",
      f"--log-net-log={log}",
      f"--screenshot={shot}",
      *("--dump-dom", "--enable-logging=stderr", "--v=0"),
      page.resolve().as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  events = json.loads(log.read_text())["events"]
  asked = [event.get("params", {}) for event in events]
  with Image.open(shot) as picture:
    pixels = np.asarray(picture.convert("RGB"))
  return View(
    done.stdout,
    _CONSOLE.findall(done.stderr),
    # What the browser itself asks for is of no origin.
    sorted(
      {
        params["url"]
        for params in asked
        if "url" in params
        and params.get("initiator", "not an origin") != "not an origin"
      }
    ),
    pixels,
  )
