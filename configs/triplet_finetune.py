"""Triplets after a loss over classes: a trained net, made finer by distance.

Needs the net of a run with the same preset, by default that of cosface.py:

  python -m facejax.train --config cosface.py
  python -m facejax.train --config triplet_finetune.py
  python -m facejax.train --config triplet_finetune.py --init-from runs/arcface

Parkhi et al., Deep Face Recognition, 2015 (softmax first, then triplets).

  python -m facejax.train --config triplet_finetune.py                 not yet run
  python -m facejax.train --config triplet_finetune.py:lfw             not yet run
  python -m facejax.train --config triplet_finetune.py:casia_r50       not yet run
  python -m facejax.train --config triplet_finetune.py:ms1mv3_r50      not yet run
  python -m facejax.train --config triplet_finetune.py:glint360k_r100  not yet run
  python -m facejax.train --config triplet_finetune.py:wf42m_r100      not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

LOSS = loss_config.Triplet(margin=0.2, mining="semi_hard_hardest")


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = presets.scale(preset)
  suffix = "" if preset == "default" else f"-{preset}"
  people, images = (32, 4) if preset in presets.SMALL else (45, 40)
  return presets.identities(
    dataclasses.replace(
      base,
      loss=LOSS,
      init_from=f"runs/cosface{suffix}",
      optim=dataclasses.replace(base.optim, learning_rate=0.01),
    ),
    people,
    images,
  )
