"""SphereFace2: a binary loss for every class, one learnt bias.

Wen et al., SphereFace2: Binary Classification is All You Need for Deep Face
Recognition, 2022.

  python -m facejax.train --config sphereface2.py
    generated faces; 86.9 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config sphereface2.py:lfw               not yet run
  python -m facejax.train --config sphereface2.py:casia_r50         not yet run
  python -m facejax.train --config sphereface2.py:ms1mv3_r50        not yet run
  python -m facejax.train --config sphereface2.py:glint360k_r100    not yet run
  python -m facejax.train --config sphereface2.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.SphereFace2()
SMALL = loss_config.SphereFace2(scale=32.0, margin=0.2)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
