"""Where this user's caches lie."""

import os
import pathlib


def folder(name: str) -> pathlib.Path:
  """The folder of a cache of facejax's, in XDG_CACHE_HOME or ~/.cache."""
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "facejax" / name
