"""From the configuration of a loss to what is trained: `facejax.training.objectives.definition.Goal`."""

import functools
from collections.abc import Callable
from typing import Any

from facejax.head import objective as objective_lib
from facejax.losses import (
  angles,
  binary,
  circle,
  margins,
  multiplicative,
)
from facejax.training.objectives import build_adaptive, registry
from facejax.training.objectives import definition as goal_lib

Objective = objective_lib.Objective


def build(loss: registry.LossConfig, *, num_classes: int) -> goal_lib.Goal:
  """The goal of a loss over this many classes."""
  return _BUILDERS[type(loss)](loss, num_classes)


def _softmax(loss: registry.Softmax, _) -> goal_lib.Goal:
  return goal_lib.Goal(
    Objective(margins.nsl, None, unit_prototypes=False, bias=loss.bias)
  )


def _modified_softmax(_loss, _) -> goal_lib.Goal:
  return goal_lib.Goal(Objective(margins.nsl, None))


def _nsl(loss: registry.NSL, _) -> goal_lib.Goal:
  return goal_lib.Goal(Objective(margins.nsl, loss.scale))


def _cosface(loss: registry.CosFace, _) -> goal_lib.Goal:
  margin = functools.partial(margins.cosface, margin=loss.margin)
  return goal_lib.Goal(Objective(margin, loss.scale))


def _arcface(loss: registry.ArcFace, _) -> goal_lib.Goal:
  margin = functools.partial(
    margins.arcface,
    margin=loss.margin,
    guard=loss.guard,
    gradient=loss.gradient,
  )

  def penalty(target_cosine):
    return loss.intra_weight * angles.intra_class(target_cosine)

  return goal_lib.Goal(
    Objective(
      margin, loss.scale, penalty=penalty if loss.intra_weight else None
    ),
    centers=loss.centers,
  )


def _combined(loss: registry.Combined, _) -> goal_lib.Goal:
  margin = functools.partial(
    margins.combined,
    m1=loss.m1,
    m2=loss.m2,
    m3=loss.m3,
    gradient=loss.gradient,
  )
  return goal_lib.Goal(Objective(margin, loss.scale))


def _sphereface_r(loss: registry.SphereFaceR, _) -> goal_lib.Goal:
  options: Any = {"margin": loss.margin, "gradient": loss.gradient}
  if loss.version == "v2":
    return goal_lib.Goal(
      Objective(
        margins.nsl,
        loss.scale,
        negative=functools.partial(
          multiplicative.sphereface_r_negative, **options
        ),
        weight=loss.weight,
      )
    )
  margin = (
    multiplicative.sphereface
    if loss.version == "v0"
    else multiplicative.sphereface_r
  )
  return goal_lib.Goal(
    Objective(
      functools.partial(margin, **options), loss.scale, weight=loss.weight
    )
  )


def _sphereface2(loss: registry.SphereFace2, num_classes: int) -> goal_lib.Goal:
  options: Any = {
    "margin": loss.margin,
    "scale": loss.scale,
    "kind": loss.kind,
    "power": loss.power,
  }
  start = binary.sphereface2_bias(num_classes, alpha=loss.alpha, **options)
  share = loss.weight / loss.scale
  return goal_lib.Goal(
    Objective(
      functools.partial(binary.sphereface2, **options),
      loss.scale,
      negative=functools.partial(binary.sphereface2_negative, **options),
      one_vs_all=(share * loss.alpha, share * (1 - loss.alpha)),
    ),
    weights={"bias": float(start)},
    prepare=build_adaptive.with_bias,
  )


def _uniface(loss: registry.UniFace, num_classes: int) -> goal_lib.Goal:
  options: Any = {"scale": loss.scale, "clamp": loss.clamp}
  start = binary.uniface_bias(num_classes, 1.0)
  return goal_lib.Goal(
    Objective(
      functools.partial(binary.uniface, margin=loss.margin, **options),
      loss.scale,
      negative=functools.partial(binary.uniface_negative, **options),
      one_vs_all=(1.0, loss.weight),
    ),
    weights={"bias": float(start)},
    prepare=build_adaptive.with_bias,
  )


def _circle(loss: registry.Circle, _) -> goal_lib.Goal:
  return goal_lib.Goal(
    Objective(
      functools.partial(circle.circle, margin=loss.margin),
      loss.scale,
      negative=functools.partial(circle.circle_negative, margin=loss.margin),
    )
  )


def _unsized(builder):
  """A builder that does not ask for the number of classes."""
  return lambda loss, _: builder(loss)


_BUILDERS: dict[type, Callable[[Any, int], goal_lib.Goal]] = {
  registry.Softmax: _softmax,
  registry.ModifiedSoftmax: _modified_softmax,
  registry.NSL: _nsl,
  registry.CosFace: _cosface,
  registry.ArcFace: _arcface,
  registry.Combined: _combined,
  registry.LSoftmax: _unsized(build_adaptive.annealed),
  registry.ASoftmax: _unsized(build_adaptive.annealed),
  registry.SphereFaceR: _sphereface_r,
  registry.SphereFace2: _sphereface2,
  registry.AdaFace: _unsized(build_adaptive.adaface),
  registry.MagFace: _unsized(build_adaptive.magface),
  registry.CurricularFace: _unsized(build_adaptive.curricularface),
  registry.ElasticFace: _unsized(build_adaptive.elasticface),
  registry.UniFace: _uniface,
  registry.Circle: _circle,
}
