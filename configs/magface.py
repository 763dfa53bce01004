"""MagFace: an angle that grows with the embedding's norm.

Meng et al., MagFace: A Universal Representation for Face Recognition and Quality
Assessment, 2021.

  python -m facejax.train --config magface.py
    generated faces; 87.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config magface.py:lfw               not yet run
  python -m facejax.train --config magface.py:casia_r50         not yet run
  python -m facejax.train --config magface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config magface.py:glint360k_r100    not yet run
  python -m facejax.train --config magface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.MagFace()
SMALL = loss_config.MagFace(
  scale=32.0,
  lower_norm=5.0,
  upper_norm=30.0,
  lower_margin=0.1,
  upper_margin=0.3,
)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
