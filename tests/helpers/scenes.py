"""Photographs with faces in them, and a detector that knows where they are."""

import numpy as np
from PIL import Image

from facejax.data import align
from facejax.data.detectors import contract, registry

SIZE = (160, 300)
# Where a face may lie in the photos here.
PLACES = [align.template() + np.asarray(p) for p in ((10, 20), (160, 30))]


def photo(path, faces, *, quality=None):
  """A photo with faces at the first places; their corners tell of them."""
  pixels = np.full((*SIZE, 3), 90, np.uint8)
  for place, face in zip(PLACES, faces, strict=False):
    x, y = np.rint(place[0] - align.template()[0]).astype(int)
    pixels[y : y + 112, x : x + 112] = face
  pixels[:8, : 8 * len(faces)] = 255
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


def face(seed):
  y, x = np.indices((112, 112))
  phase = np.random.default_rng(seed).uniform(0, 6, 3)
  waves = [
    np.sin(x / (5 + 3 * k) + p) * np.cos(y / 9 + p) for k, p in enumerate(phase)
  ]
  return np.rint(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def detect(image):
  count = sum(image[:8, 8 * k : 8 * k + 8].mean() > 200 for k in range(2))
  points = np.asarray(PLACES[:count]).reshape(-1, 5, 2)
  return contract.checked(points)


def use_detector(monkeypatch):
  """Lets commands find the faces of `photo`, by whatever name."""
  monkeypatch.setattr(registry, "load", lambda choice: detect)
  monkeypatch.setattr(registry, "described", lambda choice: {"name": "here"})
