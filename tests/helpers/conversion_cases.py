"""Sets of images for the tests of conversion, and the command that converts."""

import os

import numpy as np
from PIL import Image

from facejax.data import convert


def write_faces(root, people=5, count=4, name="p{person:03}"):
  rng = np.random.default_rng(0)
  for person in range(people):
    home = root / name.format(person=person)
    home.mkdir(parents=True)
    # Not the same number of images each.
    for k in range(count + person % 3):
      pixels = rng.integers(0, 256, (8, 6, 3), np.uint8)
      file = home / f"{k:03}.{('png', 'jpg', 'ppm')[k % 3]}"
      Image.fromarray(pixels).save(file)
  return root


def run(*arguments):
  return convert.main([*map(os.fspath, arguments), "--workers", "1"])


def tree(root):
  """The content of every file below a folder."""
  root = os.fsencode(root)
  found = {}
  for home, _, files in os.walk(root):
    for file in files:
      path = os.path.join(home, file)
      with open(path, "rb") as content:
        found[os.path.relpath(path, root)] = content.read()
  return found


def faces_of(root):
  return {k: v for k, v in tree(root).items() if not k.startswith(b".facejax")}
