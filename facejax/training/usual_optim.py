"""Learning rate and weight decay of an optimizer that replaces another.

They are of different sizes from one optimizer to the next: what a recipe says for
its own means nothing for another. So a flag that names another brings them along,
unless they are given, too.
"""

import dataclasses
from collections.abc import Collection, Mapping

from facejax.training import optim_config

# sgd: the field's ResNets (Deng et al., ArcFace, 2019). adagrad: Schroff et al.,
# FaceNet, 2015. adamw: the field's ViTs. lion: Chen et al., Symbolic Discovery of
# Optimization Algorithms, 2023, a tenth of AdamW's rate and ten times its decay.
# schedule_free: Defazio et al., The Road Less Scheduled, 2024, with AdamW's.
# lars, lamb and muon have no value that is everybody's: a recipe's stays.
USUAL: Mapping[str, Mapping[str, float]] = {
  "sgd": {"learning_rate": 0.1, "weight_decay": 5e-4},
  "adagrad": {"learning_rate": 0.05, "weight_decay": 0.0},
  "adamw": {"learning_rate": 1e-3, "weight_decay": 0.1},
  "lion": {"learning_rate": 1e-4, "weight_decay": 1.0},
  "schedule_free": {"learning_rate": 1e-3, "weight_decay": 0.1},
}


def filled(
  optim: optim_config.OptimConfig,
  recipe: optim_config.OptimConfig,
  given: Collection[str],
) -> optim_config.OptimConfig:
  """The same with usual values where an optimizer is not the recipe's.

  Args:
    optim: with what was given.
    recipe: without.
    given: dotted names of what was, such as optim.learning_rate.

  >>> asked = optim_config.OptimConfig(name="adamw")
  >>> filled(asked, optim_config.OptimConfig(), ["optim.name"]).learning_rate
  0.001
  """
  trunk = {}
  if optim.name != recipe.name:
    trunk = _missing(optim.name, "optim.", given)
  of_head = {}
  name, own = optim.head.name, vars(optim.head)
  another = name != recipe.of_head().name
  # Where the head's is the trunk's, it takes the trunk's values; one that stays
  # beside another trunk must not, but keeps its own.
  if name and name != optim.name and (another or trunk):
    usual = _missing(name, "optim.head.", given)
    of_head = {k: v for k, v in usual.items() if another or own[k] is None}
  head = dataclasses.replace(optim.head, **of_head)
  return dataclasses.replace(optim, head=head, **trunk)


def _missing(
  name: str, prefix: str, given: Collection[str]
) -> dict[str, float]:
  usual = USUAL.get(name, {})
  return {k: v for k, v in usual.items() if prefix + k not in given}
