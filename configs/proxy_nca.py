"""Proxy NCA: a softmax over the other classes; --loss.own-counts is ProxyNCA++.

Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, 2017.
Teh et al., ProxyNCA++: Revisiting and Revitalizing Proxy Neighborhood Component
Analysis, 2020.

  python -m facejax.train --config proxy_nca.py
    generated faces; 90.9 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config proxy_nca.py:lfw             not yet run
  python -m facejax.train --config proxy_nca.py:casia_r50       not yet run
  python -m facejax.train --config proxy_nca.py:ms1mv3_r50      not yet run
  python -m facejax.train --config proxy_nca.py:glint360k_r100  not yet run
  python -m facejax.train --config proxy_nca.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.ProxyNCA()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  return dataclasses.replace(presets.scale(preset), loss=LOSS)
