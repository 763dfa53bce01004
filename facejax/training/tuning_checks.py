"""Checks of what goes on from another run's net."""

from facejax.training import config as config_lib
from facejax.training.objectives import definition


def check(config: config_lib.Config) -> None:
  """Refuses fields that need a net to go on from, where there is none.

  Raises:
    ValueError: naming the field and the fix.
  """
  if config.model.lora and not config.init_from:
    raise ValueError(
      f"model.lora={config.model.lora} without init_from: adapters alone are"
      " trained, beside the weights of another net; name the run to start from"
      " (--init-from)"
    )
  if not config.init_prototypes:
    return
  if not config.init_from:
    raise ValueError(
      "init_prototypes without init_from: name the run whose prototypes to take"
      " (--init-from)"
    )
  if not isinstance(config.loss, definition.OverClasses):
    raise ValueError(
      f"init_prototypes: {config.loss.name} compares the images of a batch and"
      " has no prototypes; leave it out, or take a loss over classes"
    )
