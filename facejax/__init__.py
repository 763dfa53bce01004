"""facejax: face recognition training in JAX, sharded by class.

Importing this package starts no JAX backend and imports none of its parts:
`import facejax.losses.margins` (and so on) brings what you need. Two functions
are here at once, and bring their parts when they are first asked for:

  model = facejax.load("runs/cosface-lfw")
  embeddings = model.embed(["ada.jpg", "bob.jpg"])
  facejax.similarity(embeddings[0], embeddings[1])
"""

import importlib

__version__ = "0.1.0"

_OF_EMBEDDER = ("load", "similarity")


def __getattr__(name: str):
  if name in _OF_EMBEDDER:
    return getattr(importlib.import_module("facejax.embedder"), name)
  raise AttributeError(f"module 'facejax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *_OF_EMBEDDER])
