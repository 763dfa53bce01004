"""UniFace: one threshold for all pairs of face and class.

Zhou et al., UniFace: Unified Cross-Entropy Loss for Deep Face Recognition, 2023.

  python -m facejax.train --config uniface.py
    generated faces; 86.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config uniface.py:lfw               not yet run
  python -m facejax.train --config uniface.py:casia_r50         not yet run
  python -m facejax.train --config uniface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config uniface.py:glint360k_r100    not yet run
  python -m facejax.train --config uniface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.UniFace()
SMALL = loss_config.UniFace(scale=32.0, margin=0.2)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  return dataclasses.replace(presets.scale(preset), loss=loss)
