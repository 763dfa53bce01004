"""SupCon: supervised contrastive loss over the batch.

Khosla et al., Supervised Contrastive Learning, 2020.

  python -m facejax.train --config supcon.py                 not yet run
  python -m facejax.train --config supcon.py:lfw             not yet run
  python -m facejax.train --config supcon.py:casia_r50       not yet run
  python -m facejax.train --config supcon.py:ms1mv3_r50      not yet run
  python -m facejax.train --config supcon.py:glint360k_r100  not yet run
  python -m facejax.train --config supcon.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.SupCon()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = dataclasses.replace(presets.scale(preset), loss=LOSS)
  people, images = (32, 4) if preset in presets.SMALL else (64, 8)
  return presets.identities(base, people, images)
