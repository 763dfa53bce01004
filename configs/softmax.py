"""Softmax with a bias, nothing normalised: the baseline.

Taigman et al., DeepFace: Closing the Gap to Human-Level Performance in Face
Verification, 2014.

  python -m facejax.train --config softmax.py
    generated faces; 91.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config softmax.py:lfw               not yet run
  python -m facejax.train --config softmax.py:casia_r50         not yet run
  python -m facejax.train --config softmax.py:ms1mv3_r50        not yet run
  python -m facejax.train --config softmax.py:glint360k_r100    not yet run
  python -m facejax.train --config softmax.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.Softmax()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  return dataclasses.replace(presets.scale(preset), loss=PUBLISHED)
