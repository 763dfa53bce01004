"""Proxy anchor: each class against all images of the batch.

Kim et al., Proxy Anchor Loss for Deep Metric Learning, 2020.

All cosines of a step are written out, [batch, classes] split by class over the
devices: for some hundred thousand people, not for millions.

  python -m facejax.train --config proxy_anchor.py
    generated faces; 74.1 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config proxy_anchor.py:lfw             not yet run
  python -m facejax.train --config proxy_anchor.py:casia_r50       not yet run
  python -m facejax.train --config proxy_anchor.py:ms1mv3_r50      not yet run
  python -m facejax.train --config proxy_anchor.py:glint360k_r100  not yet run
  python -m facejax.train --config proxy_anchor.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.ProxyAnchor()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = presets.scale(preset)
  head = dataclasses.replace(base.head, implementation="dense")
  return dataclasses.replace(base, loss=LOSS, head=head)
