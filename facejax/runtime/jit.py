"""How programs that hold a net are compiled."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax

from facejax.runtime import mesh as mesh_lib

# Kernels of YNNPACK take the convolutions of XLA's CPU backend by default; for
# the gradient of a kernel over a large map they take 2 to 4 times as long as
# Eigen's. They stay where they are good: products of matrices, sums; and for
# convolutions in double precision, which without them are plain loops.
YNN = "xla_cpu_experimental_ynn_fusion_type"
FOR_CPU = {YNN: "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def jit(
  function: Callable[..., Any],
  *,
  mesh: jax.sharding.Mesh | None = None,
  **arguments: Any,
) -> Any:
  """`jax.jit` of a program that holds a net, with what makes it fast.

  An option in the environment's XLA_FLAGS is left as it is there. Versions of
  XLA that do not know an option go without it.

  Args:
    function: the program.
    mesh: the devices that it is compiled for; None for those of this process.
    arguments: further ones of `jax.jit`.
  """
  platform = mesh_lib.platform(mesh) if mesh else jax.default_backend()
  double = jax.config.read("jax_enable_x64")
  chosen = options() if platform == "cpu" and not double else None
  return jax.jit(function, compiler_options=chosen, **arguments)


@functools.cache
def options() -> dict[str, str] | None:
  """Options of the CPU's compiler; None where there are none."""
  if YNN in os.environ.get("XLA_FLAGS", ""):
    return None
  try:
    with jax.default_device(jax.devices("cpu")[0]):
      jax.jit(lambda: 0, compiler_options=FOR_CPU).lower().compile()
  except jax.errors.JaxRuntimeError:
    return None
  return FOR_CPU
