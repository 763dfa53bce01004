"""A run's folder as training leaves it, made in a second: weights at random."""

import json

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from facejax.data.synthetic import faces
from facejax.models import functional
from facejax.runs import card, checkpoint
from facejax.runs import net as net_lib

SIZE = (32, 32)
DIM = 16
STEP = 7
THRESHOLD = 0.25


def weights():
  """The net, and its weights, statistics and average of the weights."""
  net = functional.build("iresnet10_slim", embedding_dim=DIM, image_size=SIZE)
  generator = np.random.default_rng(0)

  def draw(path, leaf):
    # Small biases and means about 0, scales and variances about 1.
    name = jax.tree_util.keystr(path)
    middle = float("scale" in name or "var" in name)
    fan = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
    values = middle + generator.normal(size=leaf.shape) / np.sqrt(fan)
    return jnp.asarray(values, leaf.dtype)

  like = jax.eval_shape(net.init, jax.random.key(0))
  params, stats = jax.tree_util.tree_map_with_path(draw, like)
  average = jax.tree_util.tree_map_with_path(draw, like[0])
  return net, params, stats, average


def write_run(folder):
  """Writes model.json, a checkpoint and results."""
  net, params, stats, average = weights()
  folder.mkdir()
  about = card.Card(
    net=net.name, embedding_dim=DIM, image_size=SIZE, crop=0.9, averaged=True
  )
  card.write(folder, about)
  with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
    checkpoints.save(STEP, net_lib.Trunk(params, stats, average))
  metrics = {"threshold": THRESHOLD, "accuracy": 0.875}
  report = {"results": {"pairs": {"metrics": metrics}}}
  (folder / "report").mkdir()
  (folder / "report" / "metrics.json").write_text(json.dumps(report))
  return folder


def write_faces(folder, *, people=4, images=3):
  """Writes PNGs of generated faces, one folder a person."""
  source = faces.SyntheticFaces(
    num_identities=people,
    images_per_identity=images,
    seed=3,
    image_size=(40, 36),
  )
  for index in range(len(source)):
    place = folder / f"person{source.labels[index]}"
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(source[index])).save(place / f"{index}.png")
  return folder
