"""The scales that every recipe offers: `cosface.py:lfw` and so on.

A preset fixes data, net, schedule and evaluation; the recipe adds its loss.
Real data is looked for in the folder that the environment variable
FACEJAX_DATA names (default: `data` in the working folder).
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

from facejax.data import places
from facejax.data.augment import augment
from facejax.data.pairs import pack_folders
from facejax.models import config as model_config
from facejax.training import config, names

# Few people and a small net: published scales and margins are too hard a start.
SMALL = ("default", "lfw")

# Of users' recipes.
data_folder = places.data_folder


def scale(preset: str) -> config.Config:
  """The configuration of a preset, without a loss.

  Raises:
    ValueError: if the preset is unknown; the message lists all.
  """
  if preset not in PRESETS:
    raise ValueError(
      f"preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}"
      f"{names.preset(preset, PRESETS)}"
    )
  return PRESETS[preset]()


def identities(
  base: config.Config, people: int, images: int, *, random_negatives: int = 0
) -> config.Config:
  """The same with batches of several images of each of some people."""
  size = people * images + random_negatives
  return dataclasses.replace(
    base,
    batch_size=size,
    accumulate=math.gcd(base.accumulate, size),
    data=dataclasses.replace(
      base.data,
      identities_per_batch=people,
      images_of_identity=images,
      random_negatives=random_negatives,
    ),
  )


def _folder(*parts: str) -> str:
  return os.path.join(places.data_folder(), *parts)


def _default() -> config.Config:
  """Generated faces and a small net: minutes on a laptop CPU."""
  return config.Config(
    epochs=3,
    batch_size=128,
    data=config.DataConfig(
      source="synthetic",
      image_size=(48, 48),
      num_identities=500,
      images_per_identity=25,
      cache=True,
    ),
    augment=augment.Augment(flip=True, shift=2),
    model=model_config.ModelConfig(name="iresnet10_slim", embedding_dim=128),
    optim=config.OptimConfig(schedule="cosine", warmup=0.1),
    eval=config.EvalConfig(num_pairs=2000, every=100),
    checkpoint=config.CheckpointConfig(every=100),
  )


def _lfw() -> config.Config:
  """LFW View 1: train on peopleDevTrain, verify on pairsDevTest."""
  return config.Config(
    epochs=20,
    batch_size=64,
    data=config.DataConfig(
      source="folder",
      path=_folder("lfw_112"),
      identities=_folder("lfw_protocol", "peopleDevTrain.txt"),
      min_images=2,
      image_size=(48, 48),
      crop=100 / 112,
      cache=True,
    ),
    augment=augment.Augment(
      flip=True,
      shift=3,
      zoom=0.1,
      rotate=8,
      brightness=0.1,
      contrast=0.2,
      erase=0.3,
    ),
    model=model_config.ModelConfig(
      name="iresnet10_slim", embedding_dim=256, dropout=0.2
    ),
    optim=config.OptimConfig(schedule="cosine", warmup=0.1),
    eval=config.EvalConfig(
      pairs=(_folder("lfw_protocol", "pairsDevTest.txt"),),
      threshold_pairs=_folder("lfw_protocol", "pairsDevTrain.txt"),
      every=500,
    ),
    checkpoint=config.CheckpointConfig(every=500),
  )


def _published(
  *,
  data: str,
  net: str,
  batch_size: int,
  optim: config.OptimConfig,
  steps: int | None = None,
  epochs: float | None = None,
) -> config.Config:
  """What the field's large recipes share. None of them was run here."""
  return config.Config(
    steps=steps,
    epochs=epochs,
    batch_size=batch_size,
    log_every=50,
    data=config.DataConfig(
      source="folder",
      path=_folder(data),
      image_size=(112, 112),
      threads=16,
      workers=8,
    ),
    model=model_config.ModelConfig(
      name=net,
      embedding_dim=512,
      dtype="bfloat16",
    ),
    head=config.HeadConfig(precision="bfloat16"),
    optim=optim,
    eval=_beside(_folder(data)),
    checkpoint=config.CheckpointConfig(every=2000),
  )


def _beside(images: str) -> config.EvalConfig:
  """Verification on the packs beside the images; without any on LFW."""
  evaluation = config.EvalConfig(every=2000)
  if pack_folders.beside(images):
    return evaluation
  lfw = _folder("lfw_protocol", "pairs.txt")
  return dataclasses.replace(evaluation, pairs=(lfw,), path=_folder("lfw_112"))


def _casia_r50() -> config.Config:
  """Deng et al., ArcFace, 2019, section 3.1: CASIA-WebFace, ResNet-50."""
  return _published(
    data="casia_webface",
    net="iresnet50",
    batch_size=512,
    steps=32_000,
    optim=config.OptimConfig(schedule="step", milestones=(20 / 32, 28 / 32)),
  )


def _linear(
  data: str, net: str, *, batch_size: int = 1024, **optim: Any
) -> config.Config:
  """The field's schedule: linear to 0 over 20 epochs, 8 x 128."""
  return _published(
    data=data,
    net=net,
    batch_size=batch_size,
    epochs=20,
    optim=config.OptimConfig(schedule="linear", **optim),
  )


def _wf42m_r100() -> config.Config:
  """The field's WebFace42M schedule on 32 x 128, lr scaled, warm-up."""
  scaled = {"learning_rate": 0.4, "warmup": 0.1}
  return _linear("webface42m", "iresnet100", batch_size=4096, **scaled)


def _generated_r50(data: str) -> config.Config:
  """Sets of generated people, of CASIA-WebFace's size or a few times that."""
  return _published(
    data=data,
    net="iresnet50",
    batch_size=512,
    epochs=40,
    optim=config.OptimConfig(schedule="step", milestones=(0.6, 0.75, 0.9)),
  )


def _vit(data: str, net: str, *, batch_size: int, parts: int) -> config.Config:
  """The field's schedule of ViTs: AdamW, 40 epochs, a tenth of it warm-up.

  Drop path 0.05 and masked tokens are those of the field's name of the net.
  """
  base = _published(
    data=data,
    net=net,
    batch_size=batch_size,
    epochs=40,
    optim=config.OptimConfig(
      name="adamw",
      learning_rate=1e-3,
      weight_decay=0.1,
      epsilon=1e-8,
      schedule="linear",
      warmup=0.1,
    ),
  )
  head = dataclasses.replace(base.head, implementation="partial_fc", rate=0.3)
  return dataclasses.replace(base, accumulate=parts, head=head)


def _wf4m_vit_s() -> config.Config:
  """WebFace4M and ViT-S."""
  return _vit("webface4m", "vit_s_dp005_mask_0", batch_size=4096, parts=4)


def _wf42m_vit_b() -> config.Config:
  """The field's WebFace42M schedule of ViT-B: 8 x 256, twelve times a step."""
  return _vit("webface42m", "vit_b_dp005_mask_005", batch_size=24_576, parts=12)


# By name, as recipes offer them; what can be had today stands first.
PRESETS: dict[str, Callable[[], config.Config]] = {
  "default": _default,
  "lfw": _lfw,
  # A tenth of WebFace260M's clean part, as MS1MV3.
  "webface4m_r50": functools.partial(_linear, "webface4m", "iresnet50"),
  "hsface_r50": functools.partial(_generated_r50, "hsface"),
  "vface_r50": functools.partial(_generated_r50, "vface"),
  "ms1mv3_r50": functools.partial(_linear, "ms1mv3", "iresnet50"),
  "glint360k_r100": functools.partial(
    _linear, "glint360k", "iresnet100", weight_decay=1e-4
  ),
  "wf4m_vit_s": _wf4m_vit_s,
  "casia_r50": _casia_r50,
  "wf42m_r100": _wf42m_r100,
  "wf42m_vit_b": _wf42m_vit_b,
}
