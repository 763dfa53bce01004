"""How much memory this machine has, and how this process manages its part.

The latter matters on CPUs: XLA's backend for them asks the C library for its
temporaries at every step, and glibc gives large blocks back to the kernel as
soon as they are freed: the next step takes millions of page faults to get them
again. Keeping freed memory saved a fifth of the CPU time of a training step of
the small nets.
"""

import ctypes
import importlib.util
import os
import pathlib

# From malloc.h: keep the heap's top, one heap for all threads, no mmap.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = 2**31 - 1
# Where the drivers of NVIDIA, of AMD and of TPUs show their devices. A plug-in
# alone says nothing: it may only compile for chips that are elsewhere.
DEVICES = pathlib.Path("/dev")
_PATTERNS = ("nvidiactl", "kfd", "accel*", "vfio/[0-9]*")
_PLUGINS = ("jax_plugins", "libtpu")
# What a container may use at most, as Linux's control groups say: the second
# generation, and the first. Numbers, or the word "max".
_LIMITS = (
  pathlib.Path("/sys/fs/cgroup/memory.max"),
  pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def total() -> int:
  """Bytes of memory of this machine, or of the container if that has less."""
  physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return min([physical, *_of_container()])


def _of_container() -> list[int]:
  found = []
  for path in _LIMITS:
    try:
      found.append(int(path.read_text()))
    except (OSError, ValueError):  # no such file here, or no limit
      continue
  return found


def keep_freed_memory() -> bool:
  """Tells glibc to keep freed memory for the next step.

  Call it before the first use of JAX: threads that exist keep their own heaps.
  Does nothing where an accelerator is to be used (there the host's memory
  serves the input threads, which are better off with a heap each) or where the
  C library is not glibc.

  Returns:
    Whether it took effect.
  """
  if _uses_accelerator():
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return False
  settings = (
    (_M_MMAP_MAX, 0),
    (_M_TRIM_THRESHOLD, _NEVER),
    (_M_ARENA_MAX, 1),
  )
  return all(mallopt(name, value) == 1 for name, value in settings)


def _uses_accelerator() -> bool:
  """Whether JAX, which must not be started yet, will compute on one."""
  if os.environ.get("JAX_PLATFORMS", "") == "cpu":
    return False
  plugin = any(importlib.util.find_spec(name) for name in _PLUGINS)
  return plugin and any(any(DEVICES.glob(name)) for name in _PATTERNS)
