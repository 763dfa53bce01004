"""What all augmentations share: the draw of whether, and the way to Pillow."""

import numpy as np
from PIL import Image

GREY = (127, 127, 127)


def happens(rng: np.random.Generator, probability: float) -> bool:
  """Draws whether a change is made; one that never is takes no draw.

  So a change that is off does not move the draws of those that are on.
  """
  return probability > 0 and rng.random() < probability


def to_pillow(image: np.ndarray) -> Image.Image:
  """Copies uint8 [height, width, 3], of any strides."""
  return Image.fromarray(np.ascontiguousarray(image))
