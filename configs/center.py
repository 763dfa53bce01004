"""Softmax and center loss.

Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition,
2016.

  python -m facejax.train --config center.py
    generated faces; 91.2 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config center.py:lfw               not yet run
  python -m facejax.train --config center.py:casia_r50         not yet run
  python -m facejax.train --config center.py:ms1mv3_r50        not yet run
  python -m facejax.train --config center.py:glint360k_r100    not yet run
  python -m facejax.train --config center.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.Softmax()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  return dataclasses.replace(
    presets.scale(preset),
    loss=PUBLISHED,
    center=config.CenterConfig(weight=0.003, rate=0.5),
  )
