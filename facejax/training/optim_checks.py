"""Checks of the optimizer's fields that depend on each other, and of lengths."""

import typing

from facejax.training import config as config_lib
from facejax.training import lengths, optim_config
from facejax.training.objectives import definition


def check(config: config_lib.Config) -> None:
  """Refuses optimizers and lengths that cannot be, before anything is read.

  Raises:
    ValueError: naming the field, its value and what is allowed.
  """
  _check_lengths(config)
  _check_head(config)
  if config.optim.name == "schedule_free":
    _check_schedule_free(config.optim)


def _check_lengths(config: config_lib.Config) -> None:
  optim = config.optim
  lengths.check_every("eval.every", config.eval.every, never=True)
  lengths.check_every("checkpoint.every", config.checkpoint.every, never=False)
  lengths.check_share("optim.warmup", optim.warmup)
  lengths.check_share("optim.head.warmup", optim.head.warmup)
  for mark in optim.milestones:
    lengths.check_share("optim.milestones", mark)
  for each in (optim, optim.of_head()):
    _check_milestones(each)


def _check_milestones(optim: config_lib.OptimConfig) -> None:
  """Holds those against each other that are of one kind, shares of the run.

  Others need the number of images: the schedule is checked before it begins.
  """
  marks, warmup = optim.milestones, optim.warmup
  shares = [mark for mark in marks if not isinstance(mark, str)]
  inside = all(mark < 1 for mark in shares)
  if not isinstance(warmup, str):
    inside = inside and all(warmup < mark for mark in shares)
  if optim.schedule == "step" and not (
    marks and inside and shares == sorted(set(shares))
  ):
    raise ValueError(
      f"optim.milestones={marks}: the step schedule needs increasing shares of"
      f" the run, between the warm-up's {warmup} and 1; or passes over the images"
      " such as 12ep, or steps such as 20000st"
    )


def _check_head(config: config_lib.Config) -> None:
  heads = typing.get_args(optim_config.HeadName)
  over_classes = isinstance(config.loss, definition.OverClasses)
  if over_classes and config.optim.of_head().name not in heads:
    raise ValueError(
      f"optim.name={config.optim.name} is for the trunk alone, which has its"
      " weights as whole matrices and verifies them; the head's are updated block"
      f" by block: give it another, optim.head.name {', '.join(heads)}"
    )


def _check_schedule_free(optim: config_lib.OptimConfig) -> None:
  if optim.schedule != "constant":
    raise ValueError(
      f"optim.name=schedule_free with optim.schedule={optim.schedule}: its mean of"
      " the weights makes up for a rate that falls; take optim.schedule=constant"
      " (the head may have its own, optim.head.schedule)"
    )
  if optim.ema:
    raise ValueError(
      f"optim.name=schedule_free with optim.ema={optim.ema}: it keeps a mean of"
      " the weights itself; take optim.ema=0"
    )
  if not optim.beta1:
    raise ValueError(
      "optim.name=schedule_free with optim.beta1=0: it must be above 0, 0.9 is"
      " usual"
    )
