"""SphereFace, A-Softmax: |x| psi(theta), annealed from the plain cosine.

Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, 2017.

  python -m facejax.train --config sphereface.py
    generated faces; 90.6 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config sphereface.py:lfw               not yet run
  python -m facejax.train --config sphereface.py:casia_r50         not yet run
  python -m facejax.train --config sphereface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config sphereface.py:glint360k_r100    not yet run
  python -m facejax.train --config sphereface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.ASoftmax()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  return dataclasses.replace(presets.scale(preset), loss=PUBLISHED)
