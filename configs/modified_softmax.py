"""Modified softmax: |x| cos, prototypes normalised.

Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition, 2017.

  python -m facejax.train --config modified_softmax.py
    generated faces; 88.8 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config modified_softmax.py:lfw               not yet run
  python -m facejax.train --config modified_softmax.py:casia_r50         not yet run
  python -m facejax.train --config modified_softmax.py:ms1mv3_r50        not yet run
  python -m facejax.train --config modified_softmax.py:glint360k_r100    not yet run
  python -m facejax.train --config modified_softmax.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.ModifiedSoftmax()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  return dataclasses.replace(presets.scale(preset), loss=PUBLISHED)
