"""How programs are compiled in tests: quickly, or as users compile them.

Most tests compile much and run little. The quick way takes a quarter of the
time; the code that it makes runs more slowly and rounds in other places.
"""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
from jax._src import compiler

from helpers import platforms

# Each fusion is made LLVM's instructions at once and not through MLIR, and a
# whole program is given to LLVM in one piece.
_QUICK = {
  "xla_cpu_use_fusion_emitters": False,
  "xla_cpu_parallel_codegen_split_count": 1,
}
_options_of_users = compiler.get_compile_options


@functools.cache
def _known() -> dict[str, Any]:
  """The quick options that this XLA takes; later ones may know others."""
  try:
    with as_users():
      jax.jit(lambda: 0, compiler_options=_QUICK).lower().compile()
  except jax.errors.JaxRuntimeError:
    return {}
  return _QUICK


def _quick_options(*args, env_options_overrides=None, backend=None, **others):
  overrides = dict(env_options_overrides or {})
  if backend is not None and backend.platform == "cpu":
    overrides = _known() | overrides
  return _options_of_users(
    *args, env_options_overrides=overrides, backend=backend, **others
  )


@contextlib.contextmanager
def _compiling(options, *, costly_passes: bool) -> Iterator[None]:
  name = "jax_disable_most_optimizations"
  before = jax.config.values[name]
  jax.config.update(name, not costly_passes)
  try:
    with mock.patch.object(compiler, "get_compile_options", options):
      yield
  finally:
    jax.config.update(name, before)


def quickly() -> contextlib.AbstractContextManager[None]:
  """The context in which little time is spent on making programs fast."""
  if platforms.NAME != "cpu":  # tested as users compile for an accelerator
    return contextlib.nullcontext()
  return _compiling(_quick_options, costly_passes=False)


def environment() -> dict[str, str]:
  """The variables of this process, for another one that compiles quickly."""
  flags = [f"--{name}={str(value).lower()}" for name, value in _known().items()]
  return os.environ | {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip(),
  }


def program_of_users() -> contextlib.AbstractContextManager[None]:
  """Fusions, copies and buffers are those that users get; LLVM does less.

  For tests of a program's text or memory, which LLVM comes too late to change.
  """
  if platforms.NAME != "cpu":
    return contextlib.nullcontext()
  return _compiling(_options_of_users, costly_passes=False)


def as_users() -> contextlib.AbstractContextManager[None]:
  """The context in which programs are compiled as users compile them."""
  return _compiling(_options_of_users, costly_passes=True)


# The marks of tests that are not compiled quickly.
MARKS = {"as_users_compile": as_users, "program_of_users": program_of_users}
