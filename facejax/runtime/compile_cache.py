"""Where compiled programs are kept, so that the next start is quick."""

import hashlib
import importlib.metadata
import pathlib
import platform

import jax

from facejax.runtime import caches


def use() -> None:
  """Keeps compiled programs between runs, unless JAX was told where itself.

  The folder is named after what a compiled program depends on: jaxlib and the
  kind of machine (a program of another CPU may crash). Which backend it is for
  is part of JAX's own names, so that this starts none.
  """
  if jax.config.values["jax_compilation_cache_dir"]:
    return
  machine = platform.machine() + _cpu_features()
  kind = "-".join(
    (
      importlib.metadata.version("jaxlib"),
      hashlib.sha256(machine.encode()).hexdigest()[:8],
    )
  )
  folder = caches.folder("xla") / kind
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _cpu_features() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  if not info.exists():
    return platform.processor()
  # A line for each core, and often more than a hundred of them.
  with info.open() as lines:
    return next((line for line in lines if line.startswith("flags")), "")
