"""Near copies of pictures."""

import io

import numpy as np
from helpers import tiny_run as tiny
from PIL import Image, ImageEnhance

from facejax.data import picture_hash


def copies(picture):
  """The same picture as others store it."""
  with io.BytesIO() as file:
    picture.save(file, "JPEG", quality=40)
    yield np.asarray(Image.open(file).convert("RGB"))
  half = picture.width // 2, picture.height // 2
  yield np.asarray(picture.resize(half))
  yield np.asarray(ImageEnhance.Brightness(picture).enhance(0.8))


def test_copies_are_near_and_others_far(tmp_path):
  files = sorted(tiny.write_faces(tmp_path, people=6, images=2).rglob("*.png"))
  pictures = [
    Image.open(file).convert("RGB").resize((64, 64)) for file in files
  ]
  bits = [picture_hash.bits(np.asarray(picture)) for picture in pictures]
  assert bits[0].shape == (picture_hash.BITS,) and bits[0].dtype == bool
  worst = max(
    picture_hash.differing(mine, picture_hash.bits(copy))
    for mine, picture in zip(bits, pictures, strict=True)
    for copy in copies(picture)
  )
  nearest = min(
    picture_hash.differing(bits[i], bits[j])
    for i in range(len(bits))
    for j in range(i)
  )
  assert worst < nearest, (worst, nearest)
