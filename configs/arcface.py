"""ArcFace: additive angular margin loss, s cos(theta + m).

Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019.

  python -m facejax.train --config arcface.py
    generated faces; two cores of an AMD EPYC, 114 s: 93.2 % on 2,000 pairs of
    unseen people (whitened PCA: 65.7 %)
  python -m facejax.train --config arcface.py:lfw             not yet run
  python -m facejax.train --config arcface.py:casia_r50       not yet run
  python -m facejax.train --config arcface.py:ms1mv3_r50      not yet run
  python -m facejax.train --config arcface.py:glint360k_r100  not yet run
  python -m facejax.train --config arcface.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

# (s, m) by preset.
LOSS = {
  # Few people and a small net: the published pair is too hard a start.
  "default": (32.0, 0.2),
  "lfw": (32.0, 0.2),
}


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  scaled = presets.scale(preset)
  scale, margin = LOSS.get(preset, (64.0, 0.5))
  return dataclasses.replace(
    scaled,
    loss=loss_config.ArcFace(scale=scale, margin=margin),
  )
