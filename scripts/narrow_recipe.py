"""A recipe of a net of a few channels, for checks of several processes.

  python -m facejax.train --config scripts/narrow_recipe.py:cosface

trains any recipe's loss on generated faces of 16 x 16, in float64. The net has
no BatchNorm, for whose many small messages the processes would wait.
"""

import dataclasses

from facejax.models import config as model_config
from facejax.models import registry, sphereface
from facejax.training import config, recipe


def get_config(preset: str = "cosface") -> config.Config:
  """The loss of another recipe, with the narrow net."""
  registry.SPECS["sphereface4"] = sphereface.SphereFaceSpec(
    (0, 0, 0, 0), widths=(4, 4, 8, 8)
  )
  base = recipe.load(f"{preset}.py")
  return dataclasses.replace(
    base,
    batch_size=8,
    log_every=1,
    seed=7,
    data=dataclasses.replace(
      base.data,
      image_size=(16, 16),
      num_identities=10,
      images_per_identity=4,
    ),
    model=model_config.ModelConfig(
      name="sphereface4", embedding_dim=8, dtype="float64"
    ),
    optim=dataclasses.replace(base.optim, learning_rate=0.02),
    eval=dataclasses.replace(base.eval, num_pairs=20, batch_size=16),
  )
