"""Small packs of pairs, as the field ships them."""

import io
import pickle

import numpy as np
from PIL import Image

from facejax.data.pairs import pairs
from facejax.data.synthetic import faces


def write(path, *, seed=0, count=40, size=(32, 32)):
  """Writes a `.bin` of pairs of drawn people; returns its path."""
  people = faces.SyntheticFaces(
    num_identities=20, images_per_identity=4, seed=seed, image_size=size
  )
  drawn = pairs.random_pairs(people, num_pairs=count)
  sides = np.stack([drawn.first, drawn.second], axis=1).ravel()
  images = [_png(people[int(index)]) for index in sides]
  path.write_bytes(pickle.dumps((images, drawn.same.tolist())))
  return path


def _png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  return file.getvalue()
