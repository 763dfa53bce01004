"""AM-Softmax: s (cos - m), CosFace with the values of its other paper.

Wang et al., Additive Margin Softmax for Face Verification, 2018.

  python -m facejax.train --config am_softmax.py
    generated faces; 89.0 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config am_softmax.py:lfw               not yet run
  python -m facejax.train --config am_softmax.py:casia_r50         not yet run
  python -m facejax.train --config am_softmax.py:ms1mv3_r50        not yet run
  python -m facejax.train --config am_softmax.py:glint360k_r100    not yet run
  python -m facejax.train --config am_softmax.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.CosFace(scale=30.0, margin=0.35)
SMALL = loss_config.CosFace(scale=30.0, margin=0.2)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
