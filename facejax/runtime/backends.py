"""Whether JAX finds the devices that it was told to use."""

import os
import sys


def complaint() -> str | None:
  """What a person is to be told if there are none; None where all is well.

  JAX says so with a RuntimeError or a bare AssertionError, at whatever call
  needs devices first, and takes the frames away that would tell where. So it
  is asked again; if it has not been imported, nothing is wrong with it.
  """
  jax = sys.modules.get("jax")
  if jax is None:
    return None
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    asked = os.environ.get("JAX_PLATFORMS")
    wanted = f"JAX_PLATFORMS={asked}" if asked else "the kind that it is to use"
    said = f" ({str(error).splitlines()[0]})" if str(error) else ""
    return (
      f"JAX finds no device of {wanted}{said}: install what it needs, such as"
      " pip install 'facejax[cuda]', or leave JAX_PLATFORMS empty to take what"
      " there is"
    )
  return None
