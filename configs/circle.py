"""Circle loss between embeddings and prototypes.

Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization,
2020.

  python -m facejax.train --config circle.py
    generated faces; 84.0 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config circle.py:lfw               not yet run
  python -m facejax.train --config circle.py:casia_r50         not yet run
  python -m facejax.train --config circle.py:ms1mv3_r50        not yet run
  python -m facejax.train --config circle.py:glint360k_r100    not yet run
  python -m facejax.train --config circle.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.Circle()
SMALL = loss_config.Circle(scale=64.0, margin=0.35)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
