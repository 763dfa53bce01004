"""Sub-center ArcFace: three centres a class, the nearest one counts.

Deng et al., Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy
Web Faces, 2020.

  python -m facejax.train --config subcenter_arcface.py
    generated faces; 81.5 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config subcenter_arcface.py:lfw               not yet run
  python -m facejax.train --config subcenter_arcface.py:casia_r50         not yet run
  python -m facejax.train --config subcenter_arcface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config subcenter_arcface.py:glint360k_r100    not yet run
  python -m facejax.train --config subcenter_arcface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.ArcFace(centers=3)
SMALL = loss_config.ArcFace(scale=32.0, margin=0.2, centers=3)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
