"""The combined margin: s (cos(m1 theta + m2) - m3).

Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019.

  python -m facejax.train --config combined.py
    generated faces; 88.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config combined.py:lfw               not yet run
  python -m facejax.train --config combined.py:casia_r50         not yet run
  python -m facejax.train --config combined.py:ms1mv3_r50        not yet run
  python -m facejax.train --config combined.py:glint360k_r100    not yet run
  python -m facejax.train --config combined.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.Combined()
SMALL = loss_config.Combined(scale=32.0, m2=0.1, m3=0.1)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
