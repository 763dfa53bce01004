"""NSL: normalised softmax loss, s cos theta (no margin).

Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, 2017.

  python -m facejax.train --config nsl.py
    generated faces; two cores of an AMD EPYC, 109 s: 93.0 % on 2,000 pairs of
    unseen people (whitened PCA: 65.7 %)
  python -m facejax.train --config nsl.py:lfw             not yet run
  python -m facejax.train --config nsl.py:casia_r50       not yet run
  python -m facejax.train --config nsl.py:ms1mv3_r50      not yet run
  python -m facejax.train --config nsl.py:glint360k_r100  not yet run
  python -m facejax.train --config nsl.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

# s by preset.
LOSS = {
  # Few people and a small net: the published pair is too hard a start.
  "default": 32.0,
  "lfw": 32.0,
}


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  scaled = presets.scale(preset)
  scale = LOSS.get(preset, 64.0)
  return dataclasses.replace(
    scaled,
    loss=loss_config.NSL(scale=scale),
  )
