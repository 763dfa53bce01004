"""AdaFace: the margin follows image quality, read off the embedding's norm.

Kim et al., AdaFace: Quality Adaptive Margin for Face Recognition, 2022.

  python -m facejax.train --config adaface.py
    generated faces; 85.6 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config adaface.py:lfw               not yet run
  python -m facejax.train --config adaface.py:casia_r50         not yet run
  python -m facejax.train --config adaface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config adaface.py:glint360k_r100    not yet run
  python -m facejax.train --config adaface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.AdaFace()
SMALL = loss_config.AdaFace(scale=32.0, margin=0.2)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
