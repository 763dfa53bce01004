"""FaceNet: triplets mined in each batch, the paper's optimizer and nets.

Schroff et al., FaceNet: A Unified Embedding for Face Recognition and Clustering,
2015. Batches of 45 people x 40 images, margin 0.2 on squared distances, for each
pair of one person the nearest negative that is farther than the pair; AdaGrad.
default and lfw have a small net, SGD with momentum and 32 people x 4 images.

  python -m facejax.train --config facenet.py
    generated faces; two cores of an AMD EPYC, 5 min beside other work: 89.6 % and
    VAL@FAR=1e-3 22.5 % on 4,000 pairs of unseen people
  FACEJAX_DATA=... python -m facejax.train --config facenet.py:lfw
    LFW View 1; the same cores, 15 min beside other work: 85.5 % on pairsDevTest,
    84.8 % at the threshold of pairsDevTrain
  python -m facejax.train --config facenet.py:nn1             not yet run
  python -m facejax.train --config facenet.py:nn2             not yet run
  python -m facejax.train --config facenet.py:nns             not yet run
  python -m facejax.train --config facenet.py:casia_r50       not yet run
  python -m facejax.train --config facenet.py:ms1mv3_r50      not yet run
  python -m facejax.train --config facenet.py:glint360k_r100  not yet run
  python -m facejax.train --config facenet.py:wf42m_r100      not yet run

nn1, nn2, nns (the small nn4): the paper's nets, on MS1MV3 in place of its
unpublished images.
"""

import dataclasses

from facejax import config, loss_config, model_config, presets

LOSS = loss_config.Triplet(margin=0.2, mining="semi_hard_hardest")
ADAGRAD = config.OptimConfig(
  name="adagrad",
  learning_rate=0.05,
  weight_decay=0.0,
  clip_norm=0.0,
  schedule="step",
  milestones=(0.6, 0.85),
  ema=0.999,
)
# Preset -> net and the size of its images.
NETS = {
  "nn1": (model_config.ModelConfig(name="nn1", embedding_dim=128), 220),
  "nn2": (model_config.ModelConfig(name="nn2", embedding_dim=128), 224),
  "nns": (model_config.ModelConfig(name="nn4_small2", embedding_dim=128), 96),
}


def get_config(preset: str = "default") -> config.Config:
  """The configuration of a preset (see facejax.presets), or of a net."""
  base = presets.scale("ms1mv3_r50" if preset in NETS else preset)
  base = dataclasses.replace(base, loss=LOSS)
  if preset in presets.SMALL:
    # A net with BatchNorm and a short run: SGD with momentum gets further.
    optim = dataclasses.replace(base.optim, learning_rate=0.05)
    # As many pairs as VAL at FAR 1e-3 needs, where they can be generated.
    pairs = dataclasses.replace(base.eval, num_pairs=4000)
    base = dataclasses.replace(base, optim=optim, eval=pairs)
    return presets.identities(base, 32, 4)
  base = dataclasses.replace(base, optim=ADAGRAD)
  if preset in NETS:
    model, side = NETS[preset]
    base = dataclasses.replace(
      base,
      model=model,
      data=dataclasses.replace(base.data, image_size=(side, side)),
    )
  return presets.identities(base, 45, 40)
