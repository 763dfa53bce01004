"""From a configuration to learning rates by step and optimizer chains."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax

from facejax.models import functional
from facejax.training import config as config_lib
from facejax.training import (
  groups,
  lengths,
  matrix_optim,
  optim,
  schedule_free,
)


def schedule(
  optimizer: config_lib.OptimConfig,
  *,
  total_steps: int,
  steps_per_epoch: int | None = None,
  warmup: str = "optim.warmup",
) -> optax.Schedule:
  """The learning-rate schedule of a run of this many steps.

  Args:
    optimizer: its learning rate is taken as it stands (`at_batch`).
    total_steps: of the run.
    steps_per_epoch: for lengths in passes over the images.
    warmup: name of the field that says the warm-up, for messages.

  Raises:
    ValueError: if a length does not fit into the run.
  """
  run = lengths.Length(total_steps, steps_per_epoch)
  stepped = optimizer.schedule == "step"
  return optim.make_schedule(
    optimizer.schedule,
    learning_rate=optimizer.learning_rate,
    total_steps=total_steps,
    warmup_steps=lengths.steps_of_share(warmup, optimizer.warmup, run),
    milestones=[
      lengths.steps_of_share("optim.milestones", mark, run)
      for mark in (optimizer.milestones if stepped else ())
    ],
    decay_factor=optimizer.decay_factor,
    power=optimizer.power,
  )


def described(
  config: config_lib.Config,
  *,
  total_steps: int | None = None,
  steps_per_epoch: int | None = None,
) -> str:
  """The optimizer, with the learning rate and the warm-up that result.

  Args:
    config: of a run.
    total_steps: of the run; None where its length is not known.
    steps_per_epoch: for lengths in passes over the images.
  """
  optimizer = config.optim.at_batch(config.batch_size)
  rate = f"{optimizer.learning_rate:.4g}"
  if optimizer != config.optim:
    root = "root of " if config.optim.scale_by_batch == "sqrt" else ""
    rate += (
      f" ({config.optim.learning_rate:.4g} x {root}{config.batch_size:,} /"
      f" {config.optim.reference_batch:,})"
    )
  parts = [f"{optimizer.name}, learning rate {rate}, {optimizer.schedule}"]
  if optimizer.warmup and total_steps is not None:
    run = lengths.Length(total_steps, steps_per_epoch)
    steps = lengths.steps_of_share("optim.warmup", optimizer.warmup, run)
    parts.append(f"after {steps:,} steps of warm-up")
  for_head = optimizer.of_head()
  if for_head != dataclasses.replace(optimizer, head=for_head.head):
    parts.append(f"(head: {for_head.name}, {for_head.learning_rate:.4g})")
  return " ".join(parts)


def of_trunk(
  optimizer: config_lib.OptimConfig,
  rate: optax.Schedule,
  backbone: functional.Backbone,
  *,
  adapters: bool = False,
) -> optax.GradientTransformation:
  """The optimizer with its groups of weights, if there are any.

  Args:
    optimizer: of the run.
    rate: its learning rate by step.
    backbone: the net.
    adapters: whether it has some, which alone are trained then.
  """
  freeze, layer_decay = optimizer.freeze, optimizer.layer_decay
  blocks = 0
  if freeze or layer_decay != 1:
    # Traced for the names of weights, which nothing else asks for.
    params, _ = jax.eval_shape(backbone.init, jax.random.key(0))
    groups.check(params, freeze=freeze, layer_decay=layer_decay)
    blocks = groups.blocks(params)
  tx = _made(
    optimizer,
    rate,
    decayed=groups.kernels if optimizer.decay == "kernels" else None,
    clip_norm=optimizer.clip_norm or None,
  )
  if layer_decay != 1:
    tx = groups.by_depth(tx, layer_decay, last=blocks)
  if optimizer.name == "schedule_free":
    tx = schedule_free.interpolated(tx, rate, beta1=optimizer.beta1)
  if freeze or adapters:
    tx = groups.freeze(tx, freeze)
  return tx


def average(
  optimizer: config_lib.OptimConfig,
) -> Callable[[Any, Any, optax.OptState], Any] | None:
  """What makes the next average of the weights; None if none is kept.

  Returns:
    (the average so far, new weights, new state of `of_trunk`) -> the average.
  """
  if optimizer.name == "schedule_free":
    return lambda _, params, state: schedule_free.mean(state, params)
  if optimizer.ema:
    return lambda average, params, _: optax.incremental_update(
      params, average, 1 - optimizer.ema
    )
  return None


def of_head(
  optimizer: config_lib.OptimConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """The optimizer of the prototypes: no groups of weights, no clipping."""
  return _made(optimizer, rate)


# The functions by their names, and the fields that are theirs alone.
_OPTIMIZERS: Mapping[str, tuple[Callable[..., Any], Sequence[str]]] = {
  "sgd": (optim.sgd, ("momentum", "nesterov")),
  "adagrad": (optim.adagrad, ("accumulator", "epsilon")),
  "adamw": (optim.adamw, ("beta1", "beta2", "epsilon")),
  "lion": (optim.lion, ("beta1", "beta2")),
  "lars": (matrix_optim.lars, ("momentum", "nesterov", "trust")),
  "lamb": (matrix_optim.lamb, ("beta1", "beta2", "epsilon")),
  "muon": (matrix_optim.muon, ("momentum", "beta1", "beta2")),
  "schedule_free": (schedule_free.steps, ("beta2", "epsilon")),
}


def _made(
  optimizer: config_lib.OptimConfig, rate: optax.Schedule, **options: Any
) -> optax.GradientTransformation:
  make, fields = _OPTIMIZERS[optimizer.name]
  own = {name: getattr(optimizer, name) for name in fields}
  return make(rate, weight_decay=optimizer.weight_decay, **own, **options)
