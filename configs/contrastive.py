"""Contrastive loss: pairs of one person near, of two people at least m apart.

Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping,
2006.

  python -m facejax.train --config contrastive.py                 not yet run
  python -m facejax.train --config contrastive.py:lfw             not yet run
  python -m facejax.train --config contrastive.py:casia_r50       not yet run
  python -m facejax.train --config contrastive.py:ms1mv3_r50      not yet run
  python -m facejax.train --config contrastive.py:glint360k_r100  not yet run
  python -m facejax.train --config contrastive.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.Contrastive()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = dataclasses.replace(presets.scale(preset), loss=LOSS)
  people, images = (32, 4) if preset in presets.SMALL else (64, 8)
  return presets.identities(base, people, images)
