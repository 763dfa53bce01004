"""Examples whose label names no class, in every implementation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api, objective, reference
from facejax.losses import margins, mining, pairwise, triplet
from facejax.runtime import mesh as mesh_lib

CLASSES = 37  # 8 shards hold 40 rows
NONE = [-1, CLASSES, CLASSES + 2, 10**6]
ALONE = {
  "softmax": heads.COSFACE,
  "one-vs-all": objective.Objective(
    heads.COSFACE_MARGIN, 30.0, one_vs_all=(0.7, 0.3), weight=2.0
  ),
  "penalty": dataclasses.replace(heads.COSFACE, penalty=lambda c: 1 - c),
}


def with_strangers():
  problem = heads.problem(CLASSES)
  labels = problem.labels.copy()
  labels[1:13:3] = NONE
  return problem._replace(labels=labels), np.isin(labels, NONE)


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("strangers", ["count", "ignore"])
def test_a_stranger_is_to_be_far_from_all(name, strangers):
  problem, unknown = with_strangers()
  head = dataclasses.replace(ALONE[name], strangers=strangers)
  out, gradients = heads.float64(problem, objective=head)
  x, w = (np.asarray(a, float) for a in problem[1::-1])
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  w /= np.linalg.norm(w, axis=1, keepdims=True)
  z = 30.0 * x @ w.T
  want = np.log1p(np.exp(z).sum(axis=1))
  if head.one_vs_all:
    want = 2.0 * 0.3 * np.log1p(np.exp(z)).sum(axis=1)
  want = want if strangers == "count" else np.zeros_like(want)
  np.testing.assert_allclose(out.loss[unknown], want[unknown], rtol=1e-12)
  assert not out.correct[unknown].any()
  assert not out.target_cosine[unknown].any()
  # The others do not notice.
  plain = problem._replace(labels=np.where(unknown, 0, problem.labels))
  known, _ = heads.float64(plain, objective=head)
  np.testing.assert_array_equal(out.loss[~unknown], known.loss[~unknown])
  if strangers == "ignore":
    assert not gradients[1][unknown].any()


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("strangers", ["count", "ignore"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (8, 2)])
def test_blocks_equal_dense(name, strangers, shape):
  problem, _ = with_strangers()
  head = dataclasses.replace(ALONE[name], strangers=strangers)
  found = heads.evaluate(problem, shape, objective=head, block_size=10)
  heads.check(found, heads.float64(problem, objective=head))


@pytest.mark.parametrize(
  "options",
  [
    {"implementation": "fused"},
    {"implementation": "partial_fc", "rate": 1.0},
    {"implementation": "sparse", "rate": 1.0},
  ],
  ids=str,
)
@pytest.mark.parametrize("shape", [(1, 1), (8, 8)])
def test_steps_equal_dense(options, shape):
  problem, _ = with_strangers()
  tx = optax.sgd(0.1)
  found, _, _ = heads.step(
    problem, shape, tx=tx, key=jax.random.key(1), **options
  )
  want, (dw, dx, _) = heads.float64(problem, objective=heads.COSFACE)
  heads.check((found.output, ()), (want, ()))
  heads.close(found.d_embeddings, dx)
  new = found.state.prototypes
  heads.close(new[:CLASSES] - problem.prototypes, -0.1 * dw, 1e-4)
  assert not new[CLASSES:].any()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_stranger_draws_no_class(rate):
  problem, _ = with_strangers()
  nobody = problem._replace(labels=np.full(16, -1, np.int32))
  found, w, _ = heads.step(
    nobody, (8, 8), tx=heads.DECAY, key=jax.random.key(0),
    implementation="sparse", rate=rate,
  )  # fmt: skip
  changed = heads.changed_rows(found.state.prototypes, w)
  assert 0 < len(changed) <= max(1, round(rate * CLASSES))
  assert np.isfinite(found.output.dropped).all()


def test_labels_are_whole_numbers():
  problem = heads.problem(5)
  mesh = mesh_lib.make_mesh(devices=1)
  head = api.Head(heads.COSFACE, 5, mesh, tx=optax.sgd(0.1))
  state = head.init(jax.random.key(0), dim=12)
  x = jnp.asarray(problem.embeddings)
  for labels in (problem.labels.astype(np.float32), problem.labels > 0):
    for call in (
      lambda y: head.loss(state.prototypes, x, y),
      lambda y: head.update(state, x, y),
      lambda y: head.target_cosine(state.prototypes, x, y),
      lambda y: reference.loss(state.prototypes, x, y, objective=heads.COSFACE),
      functools.partial(pairwise.supcon, x),
      functools.partial(triplet.triplet, x),
    ):
      with pytest.raises(ValueError, match="labels are (float32|bool)"):
        call(labels)


def test_options_are_told():
  with pytest.raises(ValueError, match="strangers='drop'"):
    objective.Objective(margins.nsl, strangers="drop")


def test_within_a_batch_each_stranger_is_alone():
  x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  known = jnp.array([0, 0, 1, 1, 7, 8])
  strangers = jnp.array([0, 0, 1, 1, -1, -1])
  for loss in (pairwise.supcon, pairwise.contrastive):
    for a, b in zip(loss(x, known), loss(x, strangers), strict=True):
      np.testing.assert_array_equal(a, b)
  found = mining.identities(strangers)
  np.testing.assert_array_equal(found.size, [2, 2, 2, 2, 1, 1])
