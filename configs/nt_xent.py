"""NT-Xent, SimCLR's contrastive loss, over the people of the batch.

Chen et al., A Simple Framework for Contrastive Learning of Visual
Representations, 2020.

  python -m facejax.train --config nt_xent.py
    generated faces; 85.3 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config nt_xent.py:lfw             not yet run
  python -m facejax.train --config nt_xent.py:casia_r50       not yet run
  python -m facejax.train --config nt_xent.py:ms1mv3_r50      not yet run
  python -m facejax.train --config nt_xent.py:glint360k_r100  not yet run
  python -m facejax.train --config nt_xent.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.NTXent()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = dataclasses.replace(presets.scale(preset), loss=LOSS)
  people, images = (32, 4) if preset in presets.SMALL else (64, 8)
  return presets.identities(base, people, images)
