"""facejax: face recognition training in JAX, sharded by class.

Importing this package starts no JAX backend and imports none of its parts:
`import facejax.losses.margins` (and so on) brings what you need. The names
below are here at once, and bring their parts when they are first asked for:

  model = facejax.load("runs/cosface-lfw")
  embeddings = model.embed(["ada.jpg", "bob.jpg"])
  facejax.similarity(embeddings[0], embeddings[1])

Recipes take `config`, `loss_config`, `model_config` and `presets` from here; `mesh`, `nearest`,
`clustering`, `embeddings` and `gallery` are for programs.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
  from facejax.models import config as model_config
  from facejax.runs.embedder import load as load
  from facejax.runtime import mesh as mesh
  from facejax.runtime.unit_vectors import similarity as similarity
  from facejax.training import config as config
  from facejax.training import presets as presets
  from facejax.training.objectives import registry as loss_config
  from facejax.training.objectives import within_batch as pair_loss_config
  from facejax.vectors import clustering as clustering
  from facejax.vectors import embeddings as embeddings
  from facejax.vectors import gallery as gallery
  from facejax.vectors import nearest as nearest

# Public name -> where it is kept: a module, or something in it after a colon.
_PUBLIC = {
  "load": "facejax.runs.embedder:load",
  "similarity": "facejax.runtime.unit_vectors:similarity",
  "config": "facejax.training.config",
  "loss_config": "facejax.training.objectives.registry",
  "pair_loss_config": "facejax.training.objectives.within_batch",
  "model_config": "facejax.models.config",
  "presets": "facejax.training.presets",
  "mesh": "facejax.runtime.mesh",
  "nearest": "facejax.vectors.nearest",
  "clustering": "facejax.vectors.clustering",
  "embeddings": "facejax.vectors.embeddings",
  "gallery": "facejax.vectors.gallery",
}


def __getattr__(name: str):
  if name not in _PUBLIC:
    raise AttributeError(f"module 'facejax' has no attribute {name!r}")
  module, _, inside = _PUBLIC[name].partition(":")
  found = importlib.import_module(module)
  return getattr(found, inside) if inside else found


def __dir__() -> list[str]:
  return sorted([*globals(), *_PUBLIC])
