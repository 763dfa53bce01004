"""Sparse softmaxes in the head: exact, whatever has a probability."""

import dataclasses

import numpy as np
import pytest
from helpers import heads, sparse_heads

from facejax.head import api, objective, supports
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib


@pytest.mark.parametrize("state", sparse_heads.PROBLEMS)
@pytest.mark.parametrize(
  ("name", "shape"),
  [
    *(("cosface", shape) for shape in heads.MESHES),
    *(("reference", shape) for shape in heads.MESHES[1:]),
    *((name, (8, 2)) for name in ("arcface", "dense support")),
    *((name, (2, 2)) for name in ("reference 2", "own length")),
  ],
)
def test_value_and_gradient(name, shape, state):
  head, problem = sparse_heads.HEADS[name], sparse_heads.PROBLEMS[state]
  loss, p, (dw, dx) = sparse_heads.oracle(problem, head)
  options = {"objective": head, "block_size": 16}
  out, found = heads.evaluate(problem, shape, **options)
  sparse_heads.check(out, loss, p)
  heads.close(found[0], dw, 3e-5)
  heads.close(found[1], dx, 3e-5)
  # A step that touches only rows with a gradient, and one that visits all.
  for implementation in ("sparse", "fused"):
    done, w, _ = heads.step(
      problem,
      shape,
      tx=sparse_heads.SGD,
      head=head,
      implementation=implementation,
    )
    sparse_heads.check(done.output, loss, p)
    heads.close(done.d_embeddings, dx, 3e-5)
    moved = (w - done.state.prototypes)[: len(dw)] / 0.1
    bound = 3e-5 * np.abs(dw).max() + 3e-6 * np.abs(w).max()
    np.testing.assert_allclose(moved, dw, rtol=0, atol=bound)


@pytest.mark.parametrize("precision", ["bfloat16", "float8"])
@pytest.mark.parametrize("state", ["converged", "rounded up"])
def test_products_of_fewer_bits(precision, state):
  """No class is lost by it: the same as where all rows are visited."""
  head = sparse_heads.HEADS["cosface"]
  problem = sparse_heads.PROBLEMS.get(state, rounded_up())
  sparse, fused = (
    heads.step(
      problem,
      (8, 2),
      tx=sparse_heads.SGD,
      head=head,
      implementation=implementation,
      precision=precision,
    )[0]
    for implementation in ("sparse", "fused")
  )
  np.testing.assert_allclose(sparse.output.loss, fused.output.loss, rtol=1e-5)
  np.testing.assert_array_equal(sparse.output.support, fused.output.support)
  heads.close(sparse.d_embeddings, fused.d_embeddings, 1e-3)
  heads.close(sparse.state.prototypes, fused.state.prototypes, 1e-4)


def rounded_up():
  """In float8 some cosines of other classes are 1.1."""
  signs = np.sign(np.random.default_rng(0).normal(size=(403, 14)))
  signs[100:140] = 1
  problem = heads.problem(403, dim=14)
  # 64 / sqrt(14) is 17.1, and its code 18.
  return problem._replace(
    prototypes=np.float32(1.07 * signs),
    embeddings=np.ones((16, 14), np.float32),
    labels=np.arange(101, 117, dtype=np.int32),
  )


@pytest.mark.parametrize("state", sparse_heads.PROBLEMS)
def test_dense_is_the_specification(state):
  problem = sparse_heads.PROBLEMS[state]
  for head in sparse_heads.HEADS.values():
    loss, p, gradients = sparse_heads.oracle(problem, head)
    out, (dw, dx, _) = heads.float64(problem, objective=head)
    np.testing.assert_allclose(out.loss, loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(out.support, (p > 0).sum(axis=1))
    heads.close(dw, gradients[0], 1e-9)
    heads.close(dx, gradients[1], 1e-9)


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize("name", ["cosface", "reference"])
def test_only_supports_and_targets_are_touched(name, shape):
  head, problem = sparse_heads.HEADS[name], sparse_heads.PROBLEMS["untrained"]
  _, p, _ = sparse_heads.oracle(problem, head)
  done, w, state = heads.step(
    problem, shape, tx=heads.DECAY, head=head, implementation="sparse"
  )
  changed = heads.changed_rows(done.state.prototypes, w)
  moved = heads.changed_rows(
    heads.momentum(done.state.optimizer), heads.momentum(state)
  )
  np.testing.assert_array_equal(changed, moved)
  wanted = {*np.flatnonzero((p > 1e-9).any(axis=0)), *problem.labels}
  assert wanted <= set(changed.tolist())
  assert len(changed) <= len(wanted) + 4 < 0.5 * len(p[0])


def test_all_classes_may_have_a_probability():
  """The lists are full, and the loops as long as there are classes."""
  head = objective.Objective(
    margins.nsl, 2.0, divergence=sparse_heads.Divergence(1.05)
  )
  problem = sparse_heads.PROBLEMS["untrained"]
  loss, p, (dw, dx) = sparse_heads.oracle(problem, head)
  assert (p > 0).all()
  for shape in heads.MESHES:
    done, w, _ = heads.step(
      problem, shape, tx=sparse_heads.SGD, head=head, implementation="sparse"
    )
    sparse_heads.check(done.output, loss, p)
    assert (done.output.support == 403).all()
    heads.close(done.d_embeddings, dx, 3e-5)
    moved = (w - done.state.prototypes)[: len(dw)] / 0.1
    bound = 3e-5 * np.abs(dw).max() + 3e-6 * np.abs(w).max()
    np.testing.assert_allclose(moved, dw, rtol=0, atol=bound)


def test_without_room_for_logits(monkeypatch):
  """What does not fit is made again."""
  monkeypatch.setattr(supports, "_KEPT_BYTES", 1)
  monkeypatch.setattr(supports, "_ROWS", {"cpu": 8})
  head, problem = (
    sparse_heads.HEADS["dense support"],
    sparse_heads.PROBLEMS["untrained"],
  )
  # Twins of one class, side by side: groups in which several count.
  w = problem.prototypes.copy()
  w[40:60] = w[40] + 0.02 * np.sin(np.arange(240).reshape(20, 12))
  problem = problem._replace(prototypes=w)
  loss, p, (_, dx) = sparse_heads.oracle(problem, head)
  done, *_ = heads.step(
    problem, (2, 2), tx=sparse_heads.SGD, head=head, implementation="sparse"
  )
  assert ((p > 0).any(axis=0)).sum() > 16
  sparse_heads.check(done.output, loss, p)
  heads.close(done.d_embeddings, dx, 3e-5)


@pytest.mark.parametrize("strangers", ["count", "ignore"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_strangers_centres_and_filter(shape, strangers):
  problem = heads.problem(403, centers=2)
  labels = problem.labels.copy()
  labels[1:13:3] = [-1, 403, 405, 10**6]
  problem = problem._replace(labels=labels)
  head = dataclasses.replace(
    sparse_heads.HEADS["reference"],
    strangers=strangers,
    interclass_filtering_threshold=0.6,
  )
  expected = heads.float64(problem, objective=head)
  found = heads.evaluate(
    problem, shape, objective=head, block_size=16, centers=2
  )
  heads.check(found, expected, share=3e-5, cosine=1e-5)
  assert (found[0].loss[1:13:3] == 0).all() == (strangers == "ignore")
  done, *_ = heads.step(
    problem,
    shape,
    tx=sparse_heads.SGD,
    head=head,
    implementation="sparse",
    centers=2,
  )
  np.testing.assert_allclose(done.output.loss, found[0].loss, rtol=1e-5)
  heads.close(done.d_embeddings, expected[1][1], 3e-5)


@pytest.mark.parametrize("implementation", ["partial_fc", "pallas"])
def test_other_implementations_are_refused(implementation):
  mesh = mesh_lib.make_mesh(devices=1)
  with pytest.raises(ValueError, match="is for e.z.*use sparse or fused"):
    api.Head(
      sparse_heads.HEADS["cosface"], 9, mesh, implementation=implementation
    )


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"one_vs_all": (1.0, 1.0)}, "divergence with one_vs_all: .* leave one_vs"),
    ({"own_counts": False}, "divergence with own_counts=False.*leave own_coun"),
    ({"unit_prototypes": False}, "leave unit_prototypes as it is"),
    (
      {"divergence": sparse_heads.Divergence(2.5)},
      r"alpha=2.5 is out of range.*\(1, 2\]",
    ),
  ],
)
def test_objectives_that_are_refused(options, says):
  with pytest.raises(ValueError, match=says):
    dataclasses.replace(sparse_heads.HEADS["cosface"], **options)
