"""SphereFace-R v2: cos(theta / m) for the other classes, hard feature norm.

Liu et al., SphereFace Revived: Unifying Hyperspherical Face Recognition, 2022.

  python -m facejax.train --config sphereface_r.py
    generated faces; 88.7 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config sphereface_r.py:lfw               not yet run
  python -m facejax.train --config sphereface_r.py:casia_r50         not yet run
  python -m facejax.train --config sphereface_r.py:ms1mv3_r50        not yet run
  python -m facejax.train --config sphereface_r.py:glint360k_r100    not yet run
  python -m facejax.train --config sphereface_r.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.SphereFaceR()
SMALL = loss_config.SphereFaceR(scale=32.0, margin=1.2, weight=1.0)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
