"""The classification losses of the golden file, put together from facejax."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from facejax.head import objective
from facejax.losses import (
  adaptive,
  angles,
  binary,
  circle,
  curricular,
  elastic,
  margins,
  multiplicative,
)

Objective = objective.Objective
Parameters = objective.Parameters
bind = functools.partial


class Inputs(NamedTuple):
  """What a case is differentiated for; bias is that of a one-vs-all loss."""

  x: jax.Array
  W: jax.Array
  b: jax.Array
  bias: jax.Array


class Loss(NamedTuple):
  """A loss of the golden file.

  Attributes:
    head: what the head makes of it.
    parameters: from inputs and target cosines, and the state it shows.
    extra: of inputs and labels, added to the loss of each example.
    classes: that take part; None for all.
    centers: sub-centres a class.
  """

  head: Objective
  parameters: Callable | None = None
  extra: Callable = lambda inputs, y: 0.0
  classes: list[int] | None = None
  centers: int = 1


def norms(x):
  """[n] from [n, dim]."""
  return jnp.sqrt((x * x).sum(axis=1))


def adaface(p):
  def parameters(inputs, cosine):
    n = norms(inputs.x)
    mean, std = adaptive.adaface_statistics(
      n, p["batch_mean_before"], p["batch_std_before"], rate=p["t_alpha"]
    )
    k = adaptive.adaface_quality(n, mean, std, concentration=p["h"])
    state = {"new_batch_mean": mean, "new_batch_std": std, "margin_scaler": k}
    return Parameters({"quality": k}), state

  return Loss(
    Objective(bind(adaptive.adaface, margin=p["m"]), p["s"]), parameters
  )


def magface(p):
  lengths = {name: p[name] for name in ("l_a", "u_a")}
  limits = {name: p[name] for name in ("l_m", "u_m")}
  guard = "easy" if p["easy_margin"] else "fallback"

  def g(inputs):
    return adaptive.magface_regularizer(norms(inputs.x), **lengths)

  def parameters(inputs, cosine):
    m = adaptive.magface_margin(norms(inputs.x), **lengths, **limits)
    return Parameters({"margin": m}), {"margins": m, "loss_g": g(inputs).mean()}

  return Loss(
    Objective(bind(adaptive.magface, guard=guard), p["s"]),
    parameters,
    lambda inputs, y: p["lambda_g"] * g(inputs),
  )


def curricularface(p):
  def parameters(inputs, cosine):
    t = curricular.curricularface_average(p["t"], cosine, decay=p["alpha"])
    each = jnp.full_like(cosine, t)
    return Parameters(negative={"average": each}), {"new_t": t}

  negative = bind(curricular.curricularface_negative, margin=p["m"])
  head = Objective(bind(margins.arcface, margin=p["m"]), p["s"], negative)
  return Loss(head, parameters)


def elasticface(function, p):
  def parameters(inputs, cosine):
    m = jnp.asarray(p["margins"], cosine.dtype)
    m = elastic.elastic_order(m, cosine) if p["plus"] else m
    return Parameters({"margin": m}), {"margins_used": m}

  return Loss(Objective(function, p["s"]), parameters)


def shared_bias(inputs, cosine):
  each = jnp.full_like(cosine, inputs.bias)
  return Parameters({"bias": each}, {"bias": each}), {}


def uniface(p):
  common = {"scale": p["s"], "clamp": p["clamp"]}
  head = Objective(
    bind(binary.uniface, margin=p["m"], **common),
    p["s"],
    bind(binary.uniface_negative, **common),
    one_vs_all=(1.0, p["l"]),
  )
  return Loss(head, shared_bias)


def sphereface2(p):
  common = {"scale": p["r"], "margin": p["m"], "kind": p["type"]}
  common["power"] = p["t"]
  weight = p["lw"] / p["r"]
  head = Objective(
    bind(binary.sphereface2, **common),
    p["r"],
    bind(binary.sphereface2_negative, **common),
    one_vs_all=(weight * p["alpha"], weight * (1 - p["alpha"])),
  )
  return Loss(head, shared_bias)


def multiplied(function, p):
  """SphereFace with a real margin."""
  return Loss(
    Objective(bind(function, margin=p["m"], gradient=p["gradient"]), p["s"])
  )


def sphereface_r_v2(p):
  negative = bind(
    multiplicative.sphereface_r_negative, margin=p["m"], gradient=p["gradient"]
  )
  return Loss(Objective(margins.nsl, p["s"], negative))


def a_softmax(unit_prototypes, p):
  phi = bind(multiplicative.a_softmax, margin=p["m"], strength=p["lam"])
  return Loss(Objective(phi, None, unit_prototypes=unit_prototypes))


def arcface(p):
  options = {"guard": p.get("guard", "fallback"), "gradient": p["gradient"]}
  phi = bind(margins.arcface, margin=p["m"], **options)
  return Loss(Objective(phi, p["s"]), centers=p.get("K", 1))


def combined(p):
  phi = bind(margins.combined, m1=p["m1"], m2=p["m2"], m3=p["m3"])
  return Loss(Objective(phi, p["s"]))


def partial_fc(p):
  return combined({"m1": 1.0, **p})._replace(classes=p["sampled"])


def circle_class(p):
  head = Objective(
    bind(circle.circle, margin=p["m"]),
    p["gamma"],
    bind(circle.circle_negative, margin=p["m"]),
  )
  return Loss(head)


def norm_softmax_inter(p):
  return Loss(
    Objective(margins.nsl, p["s"]),
    extra=lambda inputs, y: angles.inter_class(inputs.W, y),
  )


def plain(**options):
  return lambda p: Loss(Objective(margins.nsl, p.get("s"), **options))


# By the beginning of the name, the longest that fits.
LOSSES = {
  "softmax_bias": plain(unit_prototypes=False, bias=True),
  "modified_softmax": plain(),
  "nsl": plain(),
  "l_softmax": bind(a_softmax, False),
  "a_softmax": bind(a_softmax, True),
  "cosface": lambda p: Loss(
    Objective(bind(margins.cosface, margin=p["m"]), p["s"])
  ),
  "arcface": arcface,
  "combined": combined,
  "sphereface_floor": bind(multiplied, multiplicative.sphereface),
  "sphereface_r_v1": bind(multiplied, multiplicative.sphereface_r),
  "sphereface_r_v2": sphereface_r_v2,
  "sphereface2": sphereface2,
  "curricularface": curricularface,
  "uniface_uce": uniface,
  "circle_class": circle_class,
  "norm_softmax_intra": plain(penalty=angles.intra_class),
  "norm_softmax_inter": norm_softmax_inter,
  "elastic_arc": bind(elasticface, bind(margins.arcface, guard="none")),
  "elastic_cos": bind(elasticface, margins.cosface),
  "adaface": adaface,
  "magface": magface,
  "partial_fc": partial_fc,
  "subcenter_arcface": arcface,
}


def build(case):
  """The loss of a case; an unknown name is an error."""
  detached = case["grad_mode"].startswith("straight-through")
  params = {**case["params"], "gradient": "detached" if detached else "exact"}
  fits = [name for name in LOSSES if case["name"].startswith(name)]
  assert fits, f"{case['name']}: no loss of LOSSES has this name"
  return LOSSES[max(fits, key=len)](params)
