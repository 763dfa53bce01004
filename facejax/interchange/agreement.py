"""Whether a file that was written says what the net says."""

from collections.abc import Callable
from typing import Any

import numpy as np

from facejax.data.synthetic import faces
from facejax.runs import net as net_lib

# Of generated faces; and the least cosine between net and file on them.
_FACES = 3
_LEAST_COSINE = 0.99999


def example_images(image_size: tuple[int, int], count: int) -> np.ndarray:
  """Generated faces, always the same: uint8 [count, height, width, 3]."""
  drawn = faces.SyntheticFaces(
    num_identities=count,
    images_per_identity=1,
    seed=0,
    image_size=image_size,
  )
  return np.stack([np.asarray(drawn[i]) for i in range(count)])


def compare(
  net: net_lib.TrainedNet,
  embed: Callable[[np.ndarray], np.ndarray],
  form: str,
) -> dict[str, Any]:
  """Embeds a batch, and one image alone, with the net and with the file."""
  images = example_images(net.card.image_size, _FACES)
  wanted = np.asarray(net.compiled(net.params, net.stats, images))
  wanted = np.concatenate([wanted, wanted[:1]])
  found = np.concatenate([embed(images), embed(images[:1])])
  if found.shape != wanted.shape:
    raise ValueError(
      f"the {form} file makes embeddings {found.shape}, the net {wanted.shape}"
    )
  found = found / np.linalg.norm(found, axis=1, keepdims=True)
  cosines = np.sum(found * wanted, axis=1, dtype=np.float64)
  if not cosines.min() >= _LEAST_COSINE:  # nor if one is not a number
    raise ValueError(
      f"the {form} file does not agree with the net: cosine"
      f" {cosines.min():.6f} on generated faces, wanted {_LEAST_COSINE}"
    )
  return {
    "images": f"{_FACES} generated faces",
    "least_cosine": min(1.0, float(cosines.min())),
    "largest_difference": float(np.abs(found - wanted).max()),
  }
