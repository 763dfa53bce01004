"""ElasticFace-Arc: a margin drawn for each image.

Boutros et al., ElasticFace: Elastic Margin Loss for Deep Face Recognition, 2022.

  python -m facejax.train --config elasticface.py
    generated faces; 85.4 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config elasticface.py:lfw               not yet run
  python -m facejax.train --config elasticface.py:casia_r50         not yet run
  python -m facejax.train --config elasticface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config elasticface.py:glint360k_r100    not yet run
  python -m facejax.train --config elasticface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.ElasticFace()
SMALL = loss_config.ElasticFace(scale=32.0, margin=0.2, std=0.02)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
