"""CurricularFace: hard negatives count more as training goes on.

Huang et al., CurricularFace: Adaptive Curriculum Learning Loss for Deep Face
Recognition, 2020.

  python -m facejax.train --config curricularface.py
    generated faces; 89.9 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config curricularface.py:lfw               not yet run
  python -m facejax.train --config curricularface.py:casia_r50         not yet run
  python -m facejax.train --config curricularface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config curricularface.py:glint360k_r100    not yet run
  python -m facejax.train --config curricularface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.CurricularFace()
SMALL = loss_config.CurricularFace(scale=32.0, margin=0.2)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
