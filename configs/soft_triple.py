"""SoftTriple: several centres a class, weighed by how near they are.

Qian et al., SoftTriple Loss: Deep Metric Learning Without Triplet Sampling,
2019.

All cosines of a step are written out, [batch, classes] split by class over the
devices: for some hundred thousand people, not for millions.

  python -m facejax.train --config soft_triple.py
    generated faces; 89.5 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config soft_triple.py:lfw             not yet run
  python -m facejax.train --config soft_triple.py:casia_r50       not yet run
  python -m facejax.train --config soft_triple.py:ms1mv3_r50      not yet run
  python -m facejax.train --config soft_triple.py:glint360k_r100  not yet run
  python -m facejax.train --config soft_triple.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

PUBLISHED = loss_config.SoftTriple()
# Few images a person leave little for more centres.
SMALL = loss_config.SoftTriple(centers=3)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  loss = SMALL if preset in presets.SMALL else PUBLISHED
  base = presets.scale(preset)
  head = dataclasses.replace(base.head, implementation="dense")
  return dataclasses.replace(base, loss=loss, head=head)
