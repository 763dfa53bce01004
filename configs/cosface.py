"""CosFace: large margin cosine loss, s (cos theta - m).

Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018.

  python -m facejax.train --config cosface.py
    generated faces; two cores of an AMD EPYC, 104 s: 92.5 % on 2,000 pairs
    of unseen people (whitened PCA: 65.7 %)
  FACEJAX_DATA=... python -m facejax.train --config cosface.py:lfw
    LFW View 1; the same cores, busy with other work, 8 min: 91.5 % on
    pairsDevTest, 90.7 % at the threshold of pairsDevTrain (PCA: 67.6 %);
    with --epochs 40: 92.2 % and 89.9 %
  python -m facejax.train --config cosface.py:casia_r50       not yet run
  python -m facejax.train --config cosface.py:ms1mv3_r50      not yet run
  python -m facejax.train --config cosface.py:glint360k_r100  not yet run
  python -m facejax.train --config cosface.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

# (s, m) by preset.
LOSS = {
  # Few people and a small net: the published pair is too hard a start.
  "default": (32.0, 0.2),
  "lfw": (32.0, 0.3),
  # The field trains these sets with a larger margin than the paper.
  "glint360k_r100": (64.0, 0.4),
  "wf42m_r100": (64.0, 0.4),
  "webface4m_r50": (64.0, 0.4),
  "wf4m_vit_s": (64.0, 0.4),
  "wf42m_vit_b": (64.0, 0.4),
}


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  scaled = presets.scale(preset)
  scale, margin = LOSS.get(preset, (64.0, 0.35))
  return dataclasses.replace(
    scaled,
    loss=loss_config.CosFace(scale=scale, margin=margin),
  )
