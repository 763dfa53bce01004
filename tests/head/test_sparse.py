"""The gradient for the most probable classes, and what it leaves out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads

from facejax.head import objective, reference
from facejax.losses import margins

COSFACE = heads.COSFACE
HEADS = {
  "cosface": COSFACE,
  "arcface": objective.Objective(
    functools.partial(margins.arcface, margin=0.5), 64.0
  ),
  "own length": objective.Objective(margins.nsl, None),
}
step = functools.partial(heads.step, tx=heads.DECAY, implementation="sparse")


def probabilities(problem, head):
  """p_ij [batch, num_classes], the target's margin included."""
  with jax.enable_x64(True):
    w, x = (
      jnp.asarray(a, jnp.float64)
      for a in (problem.prototypes, problem.embeddings)
    )
    queries, lengths = head.queries(x)
    norms = jnp.linalg.norm(w, axis=-1)
    dots = queries @ w.T / norms[None, :]
    own = jnp.arange(len(x)), problem.labels
    cosine = head.cosine(dots[own], lengths, jnp.ones_like(lengths))
    z = dots.at[own].set(lengths * head.margin(cosine))
    loss = reference.loss(w, x, problem.labels, objective=head).loss
    p = np.asarray(jax.nn.softmax(z, axis=1))
    np.testing.assert_allclose(-np.log(p[own]), loss, rtol=1e-9, atol=1e-9)
    return p


def left_out(p, labels, kept):
  """The probability [batch] of other classes that are not in `kept`."""
  rest = np.ones_like(p, bool)
  rest[:, kept] = False
  assert not rest[np.arange(len(p)), labels].any()
  return (p * rest).sum(axis=1)


def wanted_classes(problem, rate):
  return max(1, round(rate * problem.prototypes.shape[0]))


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    *(("cosface", shape) for shape in heads.MESHES),
    ("arcface", (8, 2)),
    ("own length", (2, 2)),
  ],
)
def test_what_is_left_out_is_told(name, shape):
  head, rate = HEADS[name], 0.05
  problem = heads.problem(403)
  result, w, state = step(problem, shape, head=head, rate=rate)
  out = result.output
  want, (dw, dx, _) = heads.float64(problem, objective=head)
  # The loss is of all classes.
  heads.check((out, ()), (want, ()))
  kept = heads.changed_rows(result.state.prototypes, w)
  moved = heads.changed_rows(
    heads.momentum(result.state.optimizer), heads.momentum(state)
  )
  np.testing.assert_array_equal(kept, moved)
  positives = set(problem.labels.tolist())
  assert positives <= set(kept.tolist())
  assert len(kept) <= len(positives) + wanted_classes(problem, rate)
  p = probabilities(problem, head)
  dropped = left_out(p, problem.labels, kept)
  assert dropped.max() > 0.01
  np.testing.assert_allclose(out.dropped, dropped, rtol=1e-4, atol=1e-5)
  # What is kept has its exact gradient.
  velocity = 0.9 * heads.momentum(state) + 5e-2 * w
  gradient = (heads.momentum(result.state.optimizer) - velocity)[kept]
  bound = 1e-5 * np.abs(velocity).max()  # it is the difference of these
  np.testing.assert_allclose(gradient, dw[kept], rtol=0, atol=bound)
  # |dx - exact| <= s dropped / ||x||, of the mean over the batch.
  error = len(dx) * np.linalg.norm(result.d_embeddings - dx, axis=1)
  lengths = np.linalg.norm(problem.embeddings, axis=1)
  certified = (head.scale or lengths) * dropped / lengths
  assert (error <= certified * (1 + 1e-4) + 1e-5).all()
  assert (error > 1e-3 * certified)[dropped > 0.01].all(), "never near it"


def peaked(num_classes):
  """Embeddings between their class and four others."""
  problem = heads.problem(num_classes, dim=24)
  others = np.random.default_rng(2).integers(num_classes, size=(16, 4))
  own = problem.prototypes[problem.labels]
  embeddings = own + problem.prototypes[others].sum(axis=1)
  return problem._replace(embeddings=embeddings)


@pytest.mark.parametrize("shape", [(8, 8), (8, 2)])
def test_the_same_classes_on_every_mesh(shape):
  """Of more classes than the normaliser is estimated from."""
  options = {"head": HEADS["arcface"], "rate": 0.01}
  alone, w, _ = step(peaked(9001), **options)
  result, padded, _ = step(peaked(9001), shape, **options)
  np.testing.assert_array_equal(
    heads.changed_rows(result.state.prototypes, padded),
    heads.changed_rows(alone.state.prototypes, w),
  )
  np.testing.assert_allclose(
    result.output.dropped, alone.output.dropped, rtol=1e-3, atol=1e-5
  )


@pytest.mark.parametrize("num_classes", [1000, 9001, 40_000])
def test_the_choice_is_nearly_the_best(num_classes):
  """Best are the classes of the largest max_i p_ij, beside the positives."""
  problem, head, rate = peaked(num_classes), HEADS["arcface"], 0.02
  result, w, _ = step(problem, head=head, rate=rate)
  kept = heads.changed_rows(result.state.prototypes, w)
  p = probabilities(problem, head)
  score = p.copy()
  score[np.arange(len(p)), problem.labels] = 0
  score = score.max(axis=0)
  score[problem.labels] = np.inf
  number = len(set(problem.labels.tolist())) + wanted_classes(problem, rate)
  assert len(kept) <= number
  mass, best = (
    left_out(p, problem.labels, classes).mean()
    for classes in (kept, np.argsort(-score)[:number])
  )
  assert 1e-4 < best < 0.1
  assert mass <= 1.5 * best


@pytest.mark.accelerator
@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_a_peaked_softmax_keeps_its_gradient(shape):
  problem = peaked(1000)
  head = objective.Objective(heads.COSFACE_MARGIN, 128.0)
  result, *_ = step(problem, shape, head=head, rate=0.2)
  _, (_, dx, _) = heads.float64(problem, objective=head)
  assert result.output.dropped.max() < 1e-3
  heads.close(result.d_embeddings, dx, share=1e-3)


def test_one_vs_all_is_refused():
  head = objective.Objective(margins.nsl, 30.0, one_vs_all=(1.0, 1.0))
  with pytest.raises(ValueError, match="'sparse' needs a softmax.*; use fused"):
    step(heads.problem(9), head=head)
