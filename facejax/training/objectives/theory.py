"""Warnings where a loss's settings lie outside what its theory allows."""

from facejax.losses import adaptive, bounds
from facejax.training import config as config_lib
from facejax.training.objectives import registry

# That a loss should be able to reach.
_PROBABILITY = 0.9


def advice(config: config_lib.Config, *, num_classes: int) -> list[str]:
  """What theory says against scale and margin of a run; usually nothing.

  Args:
    config: of the run.
    num_classes: C.
  """
  if num_classes < 2:
    return []
  loss, dim = config.loss, config.model.embedding_dim
  found = [_scale(loss, num_classes)]
  if isinstance(loss, registry.CosFace):
    found.append(_cosface(loss, num_classes, dim))
  if isinstance(loss, registry.ASoftmax):
    found.append(_a_softmax(loss))
  if isinstance(loss, registry.MagFace):
    found.append(_magface(loss))
  return [text for text in found if text]


def _scale(loss: registry.LossConfig, num_classes: int) -> str | None:
  other = registry.SphereFace2 | registry.UniFace | registry.Circle
  scale = getattr(loss, "scale", None)
  if scale is None or isinstance(loss, other):
    return None
  least = bounds.scale_lower_bound(num_classes, _PROBABILITY)
  if scale >= least:
    return None
  return (
    f"loss.scale={scale:g} is below {least:.3g}, the least with which"
    f" {num_classes:,} classes can reach a probability of {_PROBABILITY:g}"
    " (CosFace, 2018, Eq. 6): the loss cannot become small"
  )


def _cosface(loss: registry.CosFace, num_classes: int, dim: int) -> str | None:
  most = bounds.margin_upper_bound(num_classes, dim)
  if loss.margin <= most:
    return None
  return (
    f"loss.margin={loss.margin:g} is above {most:.3g}, the most that"
    f" {num_classes:,} classes in {dim} dimensions can be apart (CosFace, 2018,"
    " Eq. 7)"
  )


def _a_softmax(loss: registry.ASoftmax) -> str | None:
  least = bounds.sphereface_min_margin("multiclass")
  if loss.margin >= least:
    return None
  return (
    f"loss.margin={loss.margin} is below {least:g}, from which on the largest"
    " angle within a class is under the smallest between classes (SphereFace,"
    " 2017, Sec. 3.4)"
  )


def _magface(loss: registry.MagFace) -> str | None:
  least = adaptive.magface_weight_bound(
    scale=loss.scale,
    l_a=loss.lower_norm,
    u_a=loss.upper_norm,
    l_m=loss.lower_margin,
    u_m=loss.upper_margin,
  )
  if loss.weight >= least:
    return None
  return (
    f"loss.weight={loss.weight:g} is below {float(least):.3g}, the least for"
    " which every image has one best norm (MagFace, 2021)"
  )
