"""Classes that are too near to be another person leave the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api, objective
from facejax.runtime import mesh as mesh_lib

CLASSES, THRESHOLD = 37, 0.4  # 8 shards hold 40 rows
LOSSES = {
  "softmax": heads.COSFACE,
  "one-vs-all": objective.Objective(
    heads.COSFACE_MARGIN, 30.0, one_vs_all=(0.7, 0.3), weight=2.0
  ),
  "own length": objective.Objective(heads.COSFACE_MARGIN, None),
  "large scale": dataclasses.replace(heads.COSFACE, scale=128.0),
  "negative": dataclasses.replace(
    heads.COSFACE,
    negative=lambda c, own: jnp.where(c > own, c * (0.3 + c), c),
  ),
}


def filtered(loss, threshold=THRESHOLD):
  return dataclasses.replace(loss, interclass_filtering_threshold=threshold)


def two_labels(centers=1):
  """Some classes lie beside others, as those of one person do."""
  problem = heads.problem(CLASSES, centers=centers)
  w = problem.prototypes.copy()
  w[1::3] = w[: len(w[1::3])] + 0.3 * w[1::3]
  return problem._replace(prototypes=w)


def cosines(problem):
  x, w = (np.asarray(a, float) for a in problem[1::-1])
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  return x @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T


def test_the_sum_is_over_classes_below_the_threshold():
  problem = two_labels()
  (out, (dw, _, _)) = heads.float64(problem, objective=filtered(heads.COSFACE))
  c, own = cosines(problem), np.arange(CLASSES) == problem.labels[:, None]
  near = (c > THRESHOLD) & ~own
  assert 0 < near.any(axis=1).sum() < len(near), "filters some, not all"
  others = np.where(own | near, 0, np.exp(30.0 * c)).sum(axis=1)
  target = 30.0 * (c[own] - 0.35)
  np.testing.assert_allclose(
    out.loss, np.log1p(others / np.exp(target)), rtol=1e-10
  )
  plain, _ = heads.float64(problem, objective=heads.COSFACE)
  assert (plain.loss[near.any(axis=1)] > out.loss[near.any(axis=1)]).all()
  # A class that is near to all that see it is not pushed away.
  alone = problem._replace(
    prototypes=problem.prototypes[:2],
    embeddings=problem.prototypes[:1].repeat(2, axis=0),
    labels=np.zeros(2, np.int32),
  )
  alone.prototypes[1] = alone.prototypes[0]
  out, (dw, dx, _) = heads.float64(alone, objective=filtered(heads.COSFACE))
  assert not out.loss.any() and not dw.any() and not dx.any()
  assert out.correct.all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 2)])
def test_blocks_equal_dense(name, shape):
  problem, loss = two_labels(), filtered(LOSSES[name])
  wanted = heads.float64(problem, objective=loss)
  unfiltered, _ = heads.float64(problem, objective=LOSSES[name])
  assert (unfiltered.loss != wanted[0].loss).any()
  found = heads.evaluate(problem, shape, objective=loss, block_size=10)
  heads.check(found, wanted)


@pytest.mark.parametrize("shape", [(1, 1), (8, 8)])
def test_the_nearest_sub_centre_decides(shape):
  problem, loss = two_labels(centers=3), filtered(heads.COSFACE)
  found = heads.evaluate(problem, shape, objective=loss, block_size=10)
  heads.check(found, heads.float64(problem, objective=loss))


@pytest.mark.parametrize(
  "options",
  [
    {"implementation": "fused"},
    {"implementation": "fused", "saved_bytes": 2**20},
    {"implementation": "partial_fc", "rate": 1.0},
    {"implementation": "sparse", "rate": 1.0},
    {"implementation": "dense"},
  ],
  ids=str,
)
@pytest.mark.parametrize("shape", [(1, 1), (8, 8)])
def test_steps_equal_dense(options, shape):
  problem, loss = two_labels(), filtered(heads.COSFACE)
  if options["implementation"] == "sparse":
    options = {**options, "rate": 0.999}
  found, _, _ = heads.step(
    *(problem, shape), tx=optax.sgd(0.1), head=loss,
    key=jax.random.key(1), **options,
  )  # fmt: skip
  want, (dw, dx, _) = heads.float64(problem, objective=loss)
  heads.check((found.output, ()), (want, ()))
  heads.close(found.d_embeddings, dx)
  new = found.state.prototypes
  heads.close(new[:CLASSES] - problem.prototypes, -0.1 * dw, 1e-4)


def test_examples_without_any_other_class():
  problem, loss = two_labels(), filtered(heads.COSFACE, 1e-6)
  # All on one side: every class is near to every example.
  w = np.abs(problem.prototypes)
  problem = problem._replace(
    prototypes=w, embeddings=np.abs(problem.embeddings)
  )
  out, gradients = heads.float64(problem, objective=loss)
  assert not out.loss.any() and not any(g.any() for g in gradients[:2])
  found = heads.evaluate(problem, (8, 8), objective=loss, block_size=10)
  heads.check(found, (out, gradients))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"interclass_filtering_threshold": 1.0}, r"=1.0 .* allowed is \[0, 1\)"),
    (
      {"interclass_filtering_threshold": 0.4, "unit_prototypes": False},
      "sums over cosines: leave unit_prototypes",
    ),
    (
      {
        "interclass_filtering_threshold": 0.4,
        "table": lambda *_, **__: (0, 0),
      },
      "table=None, or it at 0",
    ),
  ],
)
def test_what_has_no_cosines_to_filter_by_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(heads.COSFACE, **options)


def test_kernels_refuse_it():
  with pytest.raises(ValueError, match="interclass_filtering.*use fused"):
    api.Head(
      filtered(heads.COSFACE), CLASSES, mesh_lib.make_mesh(devices=1),
      implementation="pallas",
    )  # fmt: skip
