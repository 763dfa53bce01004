"""Three stages for vision transformers: sampled, steadied, then exact.

  from 0    negative classes are sampled, which lets a net without a prior of
            its own find the classes quickly;
  from 0.5  the embeddings are also drawn to the mean of their class;
  from 0.8  the loss over all classes, exact, and nothing beside it.

You et al., LVFace: Progressive Cluster Optimization for Large Vision Models in
Face Recognition, 2025. The order of the stages is theirs. Their second term, a
penalty on the expectation of a class's features, is the center loss here (Wen et
al., A Discriminative Feature Learning Approach for Deep Face Recognition, 2016);
the shares of the run, the rate and its weight are ours.

  python -m facejax.train --config lvface.py
    generated faces, vit_micro; one core of an AMD EPYC, busy with other work,
    7:35: 89.9 % on 2,000 pairs of unseen people
  python -m facejax.train --config lvface.py:lfw               not yet run
  python -m facejax.train --config lvface.py:casia_r50         not yet run
  python -m facejax.train --config lvface.py:ms1mv3_r50        not yet run
  python -m facejax.train --config lvface.py:glint360k_r100    not yet run
  python -m facejax.train --config lvface.py:wf42m_r100        not yet run
"""

import dataclasses

from facejax import config, loss_config, presets

# As CosFace's recipe: few people and a small net want a softer start.
LOSS = {
  "default": loss_config.CosFace(scale=32.0, margin=0.2),
  "lfw": loss_config.CosFace(scale=32.0, margin=0.3),
}
STAGES = (
  "0.5 center.weight=0.003",
  "0.8 center.weight=0 head.implementation=fused",
)


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets)."""
  base = presets.scale(preset)
  small = preset in presets.SMALL
  if "vit" in preset:
    net = base.model.name
  else:
    net = "vit_micro" if small else "vit_b"
  return dataclasses.replace(
    base,
    loss=LOSS.get(preset, loss_config.CosFace(scale=64.0, margin=0.4)),
    model=dataclasses.replace(base.model, name=net),
    head=dataclasses.replace(
      base.head, implementation="partial_fc", rate=0.3 if small else 0.1
    ),
    optim=config.OptimConfig(
      name="adamw", learning_rate=1e-3, weight_decay=0.1, warmup=0.1
    ),
    stages=STAGES,
  )
