"""Multi-similarity loss over the pairs of the batch.

Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric
Learning, 2019.

With a memory of past embeddings (Wang et al., Cross-Batch Memory for Embedding
Learning, 2020): --memory.size 8192.

  python -m facejax.train --config multi_similarity.py
    generated faces; 77.7 % on 2,000 pairs of unseen
    people after --steps 200 on two cores of an AMD EPYC (whole run: not yet)
  python -m facejax.train --config multi_similarity.py:lfw             not yet run
  python -m facejax.train --config multi_similarity.py:casia_r50       not yet run
  python -m facejax.train --config multi_similarity.py:ms1mv3_r50      not yet run
  python -m facejax.train --config multi_similarity.py:glint360k_r100  not yet run
  python -m facejax.train --config multi_similarity.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.MultiSimilarity()


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = dataclasses.replace(presets.scale(preset), loss=LOSS)
  people, images = (32, 4) if preset in presets.SMALL else (64, 8)
  return presets.identities(base, people, images)
