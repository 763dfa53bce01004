"""A recipe of a net of a few channels: narrow_recipe.py:RECIPE.

Without BatchNorm, for whose many small messages several processes would wait.
"""

import dataclasses

from facejax.models import config as model_config
from facejax.models import registry, sphereface
from facejax.training import recipe


def get_config(preset="cosface"):
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
