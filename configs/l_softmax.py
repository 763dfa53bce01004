"""L-Softmax: |w| |x| psi(theta), annealed from the plain softmax.

Liu et al., Large-Margin Softmax Loss for Convolutional Neural Networks, 2016.

  python -m facejax.train --config l_softmax.py
    generated faces; 90.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config l_softmax.py:lfw               not yet run
  python -m facejax.train --config l_softmax.py:casia_r50         not yet run
  python -m facejax.train --config l_softmax.py:ms1mv3_r50        not yet run
  python -m facejax.train --config l_softmax.py:glint360k_r100    not yet run
  python -m facejax.train --config l_softmax.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.LSoftmax()
SMALL = loss_config.LSoftmax(base=100.0, gamma=0.12, power=1.0, minimum=5.0)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
