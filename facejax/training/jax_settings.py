"""What a run asks of JAX itself, before any device is used."""

import jax

from facejax.runtime import cpu_devices
from facejax.training import config as config_lib


def use(config: config_lib.Config) -> None:
  """Sets precision and CPU devices as a run is told."""
  cpu_devices.ask(config.mesh.cpu_devices)
  if config.model.dtype == "float64":
    jax.config.update("jax_enable_x64", True)
