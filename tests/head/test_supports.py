"""Sparse softmaxes in the head: exact, whatever has a probability."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads, platforms

from facejax.head import api, objective, storage, supports
from facejax.losses import divergence, margins
from facejax.runtime import mesh as mesh_lib

Divergence = divergence.Divergence
ARCFACE = functools.partial(margins.arcface, margin=0.5)
HEADS = {
  "cosface": objective.Objective(
    heads.COSFACE_MARGIN, 64.0, divergence=Divergence(1.5)
  ),
  "arcface": objective.Objective(ARCFACE, 64.0, divergence=Divergence(2.0)),
  "dense support": objective.Objective(
    heads.COSFACE_MARGIN, 30.0, divergence=Divergence(1.25)
  ),
  "reference": objective.Objective(
    margins.nsl, 30.0, divergence=Divergence(1.25, -6.0)
  ),
  "reference 2": objective.Objective(
    margins.nsl, 64.0, divergence=Divergence(2.0, -3.0)
  ),
  "own length": objective.Objective(
    margins.nsl, None, divergence=Divergence(1.1)
  ),
}
SGD = optax.sgd(0.1)


def converged(num_classes=403):
  """Embeddings on their prototypes, some of them not quite."""
  problem = heads.problem(num_classes, dim=24)
  noise = np.random.default_rng(4).normal(size=problem.embeddings.shape)
  share = np.linspace(0.05, 0.6, len(noise))[:, None]
  own = problem.prototypes[problem.labels]
  return problem._replace(embeddings=np.float32(own + share * noise))


PROBLEMS = {"untrained": heads.problem(403), "converged": converged()}


def bisected(theta, q, alpha):
  """p [batch, classes] and tau [batch], in float64."""
  low = theta.max(axis=1) - (q.min() ** (1 - alpha) - 1) / (alpha - 1) - 1
  high = theta.max(axis=1) + 1 / (alpha - 1)

  def probabilities(tau):
    u = np.maximum(1 + (alpha - 1) * (theta - tau[:, None]), 0)
    return q * u ** (1 / (alpha - 1))

  for _ in range(200):
    tau = (low + high) / 2
    below = probabilities(tau).sum(axis=1) > 1
    low, high = np.where(below, tau, low), np.where(below, high, tau)
  return probabilities(low), low


def oracle(problem, head):
  """Loss, probabilities, and gradients of prototypes and embeddings."""
  form, labels = head.divergence, problem.labels
  rows = np.arange(len(labels))

  def logits(w, x):
    queries, lengths = head.queries(x)
    units = w / jnp.linalg.norm(w, axis=1, keepdims=True)
    dots = queries @ units.T
    own = lengths * head.margin(dots[rows, labels] / lengths)
    return dots.at[rows, labels].set(own)

  with jax.enable_x64(True), platforms.on_cpu():
    arrays = (
      jnp.asarray(a, jnp.float64)
      for a in (problem.prototypes, problem.embeddings)
    )
    theta, pull = jax.vjp(logits, *arrays)
    theta, a = np.asarray(theta), form.alpha
    q = np.ones_like(theta)
    q[rows, labels] = np.exp(form.log_reference)
    p, tau = bisected(theta, q, a)
    gap = np.maximum(theta - tau[:, None], -1 / (a - 1))
    conjugate = ((1 + (a - 1) * gap) ** (a / (a - 1)) - 1) / a
    own = q[rows, labels]

    def f(u):
      return (u**a - 1 - a * (u - 1)) / (a * (a - 1))

    loss = tau + (q * conjugate).sum(axis=1) - theta[rows, labels]
    loss += own * f(1 / own) + (q.sum(axis=1) - own) * f(0.0)
    d_theta = p.copy()
    d_theta[rows, labels] -= 1
    gradients = jax.device_get(pull(jnp.asarray(d_theta / len(labels))))
  return loss, p, gradients


def check(out, loss, p):
  np.testing.assert_allclose(out.loss, loss, rtol=1e-5, atol=3e-5)
  # A class on the line itself may be counted or not.
  least, most = (p > 1e-9).sum(axis=1), (p > 0).sum(axis=1) + 1
  assert (least <= out.support).all() and (out.support <= most).all()
  assert not out.dropped.any()


@pytest.mark.parametrize("state", PROBLEMS)
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
  head, problem = HEADS[name], PROBLEMS[state]
  loss, p, (dw, dx) = oracle(problem, head)
  options = {"objective": head, "block_size": 16}
  out, found = heads.evaluate(problem, shape, **options)
  check(out, loss, p)
  heads.close(found[0], dw, 3e-5)
  heads.close(found[1], dx, 3e-5)
  # A step that touches only rows with a gradient, and one that visits all.
  for implementation in ("sparse", "fused"):
    done, w, _ = heads.step(
      problem, shape, tx=SGD, head=head, implementation=implementation
    )
    check(done.output, loss, p)
    heads.close(done.d_embeddings, dx, 3e-5)
    moved = (w - done.state.prototypes)[: len(dw)] / 0.1
    bound = 3e-5 * np.abs(dw).max() + 3e-6 * np.abs(w).max()
    np.testing.assert_allclose(moved, dw, rtol=0, atol=bound)


@pytest.mark.parametrize("state", PROBLEMS)
def test_dense_is_the_specification(state):
  problem = PROBLEMS[state]
  for head in HEADS.values():
    loss, p, gradients = oracle(problem, head)
    out, (dw, dx, _) = heads.float64(problem, objective=head)
    np.testing.assert_allclose(out.loss, loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(out.support, (p > 0).sum(axis=1))
    heads.close(dw, gradients[0], 1e-9)
    heads.close(dx, gradients[1], 1e-9)


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize("name", ["cosface", "reference"])
def test_only_supports_and_targets_are_touched(name, shape):
  head, problem = HEADS[name], PROBLEMS["untrained"]
  _, p, _ = oracle(problem, head)
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
  head = objective.Objective(margins.nsl, 2.0, divergence=Divergence(1.05))
  problem = PROBLEMS["untrained"]
  loss, p, (dw, dx) = oracle(problem, head)
  assert (p > 0).all()
  for shape in heads.MESHES:
    done, w, _ = heads.step(
      problem, shape, tx=SGD, head=head, implementation="sparse"
    )
    check(done.output, loss, p)
    assert (done.output.support == 403).all()
    heads.close(done.d_embeddings, dx, 3e-5)
    moved = (w - done.state.prototypes)[: len(dw)] / 0.1
    bound = 3e-5 * np.abs(dw).max() + 3e-6 * np.abs(w).max()
    np.testing.assert_allclose(moved, dw, rtol=0, atol=bound)


def test_without_room_for_logits(monkeypatch):
  """What does not fit is made again."""
  monkeypatch.setattr(supports, "_KEPT_BYTES", 1)
  monkeypatch.setattr(supports, "_ROWS", {"cpu": 8})
  head, problem = HEADS["dense support"], PROBLEMS["untrained"]
  # Twins of one class, side by side: groups in which several count.
  w = problem.prototypes.copy()
  w[40:60] = w[40] + 0.02 * np.sin(np.arange(240).reshape(20, 12))
  problem = problem._replace(prototypes=w)
  loss, p, (_, dx) = oracle(problem, head)
  done, *_ = heads.step(
    problem, (2, 2), tx=SGD, head=head, implementation="sparse"
  )
  assert ((p > 0).any(axis=0)).sum() > 16
  check(done.output, loss, p)
  heads.close(done.d_embeddings, dx, 3e-5)


def steps(implementation, shape, tx, count=10):
  """Losses and prototypes after steps with embeddings that change."""
  problem, mesh = heads.problem(101), platforms.make_mesh(*shape)
  head = api.Head(
    HEADS["cosface"],
    101,
    mesh,
    tx=tx,
    implementation=implementation,
    block_size=16,
  )
  w, x = heads.place(problem, mesh)
  state = api.HeadState(w, tx.init(w))
  step, losses = jax.jit(head.update), []
  for _ in range(count):
    done = step(state, x, problem.labels)
    state, x = done.state, x - 2.0 * done.d_embeddings
    losses.append(done.output.loss)
  return jax.device_get((losses, state.prototypes[:101]))


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize(
  ("implementation", "tx"),
  [("sparse", SGD), ("fused", heads.OPTIMIZERS["momentum"])],
)
def test_ten_steps_equal_the_dense(implementation, tx, shape):
  losses, w = steps(implementation, shape, tx)
  wanted_losses, wanted = steps("dense", (1, 1), tx)
  np.testing.assert_allclose(losses, wanted_losses, rtol=1e-3, atol=1e-3)
  heads.close(w, wanted, 1e-4)


@pytest.mark.parametrize(
  ("shape", "dtype"),
  [((1, 1), "bfloat16"), ((8, 2), "bfloat16"), ((2, 2), "float8")],
)
def test_narrow_storage(shape, dtype):
  options = {"tx": heads.DECAY, "head": HEADS["cosface"]}
  options |= {"implementation": "sparse", "dtype": dtype}
  key = jax.random.key(7)
  done, w, _ = heads.step(PROBLEMS["untrained"], shape, key=key, **options)
  rounded = np.asarray(storage.load(jnp.asarray(w)))[:403]
  problem = PROBLEMS["untrained"]._replace(prototypes=rounded)
  loss, p, (_, dx) = oracle(problem, HEADS["cosface"])
  check(done.output, loss, p)
  heads.close(done.d_embeddings, dx, 3e-5)
  again, *_ = heads.step(PROBLEMS["untrained"], shape, key=key, **options)
  np.testing.assert_array_equal(again.state.prototypes, done.state.prototypes)
  assert len(heads.changed_rows(done.state.prototypes, w)) < 200


@pytest.mark.parametrize("strangers", ["count", "ignore"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_strangers_centres_and_filter(shape, strangers):
  problem = heads.problem(403, centers=2)
  labels = problem.labels.copy()
  labels[1:13:3] = [-1, 403, 405, 10**6]
  problem = problem._replace(labels=labels)
  head = dataclasses.replace(
    HEADS["reference"], strangers=strangers, interclass_filtering_threshold=0.6
  )
  expected = heads.float64(problem, objective=head)
  found = heads.evaluate(
    problem, shape, objective=head, block_size=16, centers=2
  )
  heads.check(found, expected, share=3e-5, cosine=1e-5)
  assert (found[0].loss[1:13:3] == 0).all() == (strangers == "ignore")
  done, *_ = heads.step(
    problem, shape, tx=SGD, head=head, implementation="sparse", centers=2
  )
  np.testing.assert_allclose(done.output.loss, found[0].loss, rtol=1e-5)
  heads.close(done.d_embeddings, expected[1][1], 3e-5)


def test_a_loss_that_is_not_finite_changes_nothing():
  mesh = mesh_lib.make_mesh(devices=2)
  head = api.Head(HEADS["cosface"], 403, mesh, tx=SGD, implementation="sparse")
  w, x = heads.place(PROBLEMS["untrained"], mesh)
  step = jax.jit(head.update)
  labels = PROBLEMS["untrained"].labels
  state = api.HeadState(w, SGD.init(w))
  done = step(state, x.at[3].set(jnp.nan), labels, finite_with=0.0)
  assert np.isnan(done.output.loss[3])
  np.testing.assert_array_equal(done.state.prototypes, w)


def test_nothing_of_the_size_of_all_logits(monkeypatch):
  monkeypatch.setattr(supports, "_KEPT_BYTES", 2**16)
  rows, dim, batch = 20_000, 32, 64
  mesh = mesh_lib.make_mesh(devices=1)
  tx = heads.OPTIMIZERS["momentum"]
  head = api.Head(HEADS["cosface"], rows, mesh, tx=tx, implementation="sparse")
  w, x, labels = heads.abstract(rows, dim, batch, mesh)
  kept: Any = w, jax.eval_shape(tx.init, w)
  state = api.HeadState(*kept)
  compiled = jax.jit(head.update, donate_argnums=0).lower(state, x, labels)
  temporaries = heads.check_compiled(
    compiled.compile(), rows=rows, dim=dim, batch=batch
  )
  # Of which 2 batch / 4 bytes a class are maxima of groups of 4.
  assert temporaries < rows * (batch + 24) + 2**21


@pytest.mark.parametrize("implementation", ["partial_fc", "pallas"])
def test_other_implementations_are_refused(implementation):
  mesh = mesh_lib.make_mesh(devices=1)
  with pytest.raises(ValueError, match="is for e.z.*use sparse or fused"):
    api.Head(HEADS["cosface"], 9, mesh, implementation=implementation)


@pytest.mark.parametrize(
  ("options", "says"),
  [
    ({"one_vs_all": (1.0, 1.0)}, "divergence with one_vs_all: .* leave one_vs"),
    ({"own_counts": False}, "divergence with own_counts=False.*leave own_coun"),
    ({"unit_prototypes": False}, "leave unit_prototypes as it is"),
    ({"divergence": Divergence(2.5)}, r"alpha=2.5 is out of range.*\(1, 2\]"),
  ],
)
def test_objectives_that_are_refused(options, says):
  with pytest.raises(ValueError, match=says):
    dataclasses.replace(HEADS["cosface"], **options)


@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_products_of_bfloat16(shape):
  """Off by what both factors are rounded by, and no class is lost by it."""
  head, problem = HEADS["arcface"], PROBLEMS["converged"]
  rounded = problem._replace(
    prototypes=np.float32(jnp.asarray(problem.prototypes, jnp.bfloat16))
  )
  loss, _, (_, dx) = oracle(rounded, head)
  done, *_ = heads.step(
    rounded,
    shape,
    tx=SGD,
    head=head,
    implementation="sparse",
    precision="bfloat16",
  )
  dense, *_ = heads.step(
    rounded,
    shape,
    tx=SGD,
    head=head,
    implementation="fused",
    precision="bfloat16",
  )
  np.testing.assert_allclose(done.output.loss, dense.output.loss, atol=1e-4)
  np.testing.assert_array_equal(done.output.support, dense.output.support)
  # A logit of 64 is off by 64 / 256 at most.
  np.testing.assert_allclose(done.output.loss, loss, atol=0.5)
  heads.close(done.d_embeddings, dx, 0.5)
  heads.close(done.d_embeddings, dense.d_embeddings, 1e-4)
