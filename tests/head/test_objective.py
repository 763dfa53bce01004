"""Every loss through every way to compute it, against float64."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads, platforms

from facejax.head import api, objective
from facejax.losses import margins

BATCH = 16
# Its state is the last gradient.
KEEP_GRADIENT = optax.trace(decay=0.0)
WAYS = {
  "dense": {},
  "chunked": {},
  "fused": {},
  "fused, saving": {"implementation": "fused", "saved_bytes": 4 * 16 * 200},
  "partial_fc": {"rate": 1.0},
  "sparse": {"rate": 1.0},
}


def psi(cosine):
  """A-Softmax, m = 4: (-1)^k cos(4 theta) - 2k, k pi <= 4 theta <= (k+1) pi."""
  k = sum((cosine < np.cos(n * np.pi / 4)).astype(int) for n in (1, 2, 3))
  cosine_of_four = 8 * cosine**4 - 8 * cosine**2 + 1
  return (1 - 2 * (k % 2)) * cosine_of_four - 2 * k


def any_arcface(cosine, *, margin, which):
  """Each example has its own guard, gradient and margin; one has none."""
  variants = [
    margins.arcface(cosine, margin=margin, guard=guard, gradient=gradient)
    for guard in ("fallback", "easy", "none", "clip")
    for gradient in ("exact", "detached")
  ]
  variants.append(margins.nsl(cosine))
  return jnp.select([which == n for n in range(len(variants))], variants)


def curricular(cosine, target, *, hardness):
  """CurricularFace: negatives past the margin count (t + c) times."""
  edge = jnp.cos(jnp.arccos(jnp.clip(target, -0.999, 0.999)) + 0.5)
  return jnp.where(cosine > edge, cosine * (hardness + cosine), cosine)


def lifted(cosine, power=3.0):
  """SphereFace2's g: 2 ((c + 1) / 2)^t - 1."""
  return 2 * ((cosine + 1) / 2) ** power - 1


def by_example(low, high):
  values = np.random.default_rng(5).uniform(low, high, BATCH)
  return values.astype(np.float32)


class Case(NamedTuple):
  """A loss, and a problem for it."""

  head: objective.Objective
  num_classes: int
  parameters: objective.Parameters = objective.Parameters()
  centers: int = 1

  def problem(self, dim=12):
    wide = heads.problem(
      self.num_classes,
      batch=BATCH,
      centers=self.centers,
      dim=dim + self.head.bias,
    )
    return wide._replace(
      embeddings=wide.embeddings[:, :dim], parameters=self.parameters
    )


CASES = {
  "cosface": Case(objective.Objective(heads.COSFACE_MARGIN, 64.0), 1000),
  "arcface": Case(
    objective.Objective(any_arcface, 30.0),
    1183,
    objective.Parameters(
      {
        "margin": by_example(0.1, 0.8),
        "which": np.arange(BATCH, dtype=np.float32) % 9,
      }
    ),
  ),
  "nsl": Case(objective.Objective(margins.nsl, 8.0), 7),
  "a-softmax": Case(objective.Objective(psi, None), 1183),
  "softmax": Case(
    objective.Objective(margins.nsl, None, unit_prototypes=False, bias=True),
    1000,
  ),
  "l-softmax": Case(
    objective.Objective(psi, None, unit_prototypes=False), 1000
  ),
  "curricularface": Case(
    objective.Objective(heads.COSFACE_MARGIN, 30.0, curricular),
    1183,
    objective.Parameters(negative={"hardness": by_example(0.1, 0.5)}),
  ),
  "curricularface, own length": Case(
    objective.Objective(heads.COSFACE_MARGIN, None, curricular),
    37,
    objective.Parameters(negative={"hardness": by_example(0.1, 0.5)}),
    centers=3,
  ),
  "sphereface2": Case(
    objective.Objective(
      lambda c, *, bias: lifted(c) - 0.2 + bias,
      30.0,
      lambda c, target, *, bias: lifted(c) + 0.2 + bias,
      one_vs_all=(0.7 / 30, 0.3 / 30),
    ),
    1183,
    objective.Parameters(
      *({"bias": by_example(low, 0.1)} for low in (-0.1, 0.0))
    ),
  ),
  "one-vs-all, plain": Case(
    objective.Objective(margins.nsl, 256.0, one_vs_all=(1.0, 1.0)), 37
  ),
  "sub-centres": Case(
    objective.Objective(heads.COSFACE_MARGIN, 64.0), 1000, centers=3
  ),
  "sub-centres, lengths": Case(
    objective.Objective(psi, None, unit_prototypes=False), 37, centers=3
  ),
  "margin of each example": Case(
    objective.Objective(margins.cosface, 256.0),
    7,
    objective.Parameters({"margin": by_example(0.0, 0.5)}),
  ),
  "one class": Case(objective.Objective(heads.COSFACE_MARGIN, 64.0), 1),
}


def evaluate(problem, way, shape, *, objective, block_size=None):
  """Values and gradients by a step that keeps its gradient."""
  mesh = platforms.make_mesh(*shape)
  count = problem.prototypes.shape[0]
  options = {"implementation": way, **WAYS[way]}

  head = api.Head(
    objective, count, mesh, tx=KEEP_GRADIENT, block_size=block_size, **options
  )

  @jax.jit
  def step(w, x, parameters):
    state = api.HeadState(w, head.init_optimizer(w))
    return head.update(
      state, x, problem.labels, parameters=parameters, key=jax.random.key(1)
    )

  placed = heads.place(problem, mesh)
  result = jax.device_get(step(*placed, problem.parameters))
  gradient = result.state.optimizer.trace
  assert not gradient[count:].any(), "padding took part"
  np.testing.assert_allclose(
    result.state.prototypes, placed[0] + gradient, rtol=1e-6, atol=1e-7
  )
  none = platforms.allowed(1e-5)
  np.testing.assert_allclose(result.output.dropped, 0, atol=none)
  return result.output, (
    gradient[:count],
    result.d_embeddings,
    result.d_parameters,
  )


def applies(name, way):
  """Whether it is a way of its own, possible, and not tested elsewhere."""
  case = CASES[name]
  if way == "dense":  # test_head has more of it
    return name == "cosface" or case.parameters.negative
  if name in ("nsl", "one-vs-all, plain", "one class"):
    return way in ("chunked", "fused")
  if way == "fused, saving":
    return case.head.is_bounded and case.centers == 1
  return way != "sparse" or case.head.one_vs_all is None


# Of what accelerators compile slowly: each way once, and each loss once.
ELSEWHERE = {
  *(("cosface", way) for way in WAYS),
  *((name, "fused") for name in CASES),
}


@functools.cache
def expected(name):
  case = CASES[name]
  return heads.float64(case.problem(), objective=case.head)


@pytest.mark.parametrize(
  ("name", "way", "shape"),
  [
    pytest.param(
      name,
      way,
      heads.MESHES[(row + column) % len(heads.MESHES)],
      marks=[pytest.mark.accelerator] * ((name, way) in ELSEWHERE),
    )
    for row, name in enumerate(CASES)
    for column, way in enumerate(WAYS)
    if applies(name, way)
  ],
)
def test_equals_float64(name, way, shape):
  """Values, and gradients for prototypes, embeddings and parameters."""
  case = CASES[name]
  actual = evaluate(
    case.problem(),
    way,
    shape,
    objective=case.head,
    block_size=max(2, case.num_classes // 20),
  )
  heads.check(actual, expected(name))


@pytest.mark.parametrize(
  ("name", "way", "shape"),
  [
    ("cosface", "chunked", (8, 2)),
    ("cosface", "fused, saving", (2, 2)),
    ("cosface", "sparse", (8, 8)),
    ("arcface", "fused", (8, 8)),
    ("arcface", "partial_fc", (2, 2)),
    ("sub-centres", "fused", (1, 1)),
  ],
)
def test_converged_regime_keeps_its_gradient(name, way, shape):
  case = CASES[name]._replace(num_classes=40)
  case = case._replace(head=dataclasses.replace(case.head, scale=64.0))
  problem = case.problem(dim=64)
  own = problem.prototypes[problem.labels].reshape(BATCH, -1, 64)[:, 0]
  noise = np.random.default_rng(1).normal(size=own.shape)
  problem = problem._replace(embeddings=np.float32(own + 0.15 * noise))
  out, gradients = evaluate(
    problem, way, shape, objective=case.head, block_size=8
  )
  want, wanted = heads.float64(problem, objective=case.head)
  assert want.loss.max() < 1e-5 and np.median(want.loss) < 1e-6
  np.testing.assert_allclose(out.loss, want.loss, rtol=1e-4)
  jax.tree.map(functools.partial(heads.close, share=1e-4), gradients, wanted)
