"""Losses of metric learning against their equations, in plain NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import reference, tables
from facejax.losses import anchors, multi_similarity, pairwise, proxies
from facejax.runtime import unit_vectors
from facejax.training.objectives import registry

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 3, -1, -1])
KNOWN = np.array([0, 0, 0, 1, 1, 2, 2, 3, 4, 4])
RNG = np.random.default_rng(11)
# People as clusters, so that mining leaves pairs out.
X = RNG.normal(size=(5, 6))[KNOWN] + 0.8 * RNG.normal(size=(10, 6))
PROXIES = RNG.normal(size=(5, 6))
CENTERS = RNG.normal(size=(5, 3, 6))


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def same(i, j):
  """Whether two examples show one person; nobody knows those below 0."""
  return LABELS[i] == LABELS[j] and LABELS[i] >= 0


def nt_xent(x, temperature):
  c, terms = unit(x) @ unit(x).T, []
  for i in range(len(x)):
    others = [n for n in range(len(x)) if n != i and not same(i, n)]
    negative = sum(np.exp(c[i, n] / temperature) for n in others)
    for p in range(len(x)):
      if p != i and same(i, p):
        e = np.exp(c[i, p] / temperature)
        terms.append(-np.log(e / (e + negative)))
  return np.mean(terms)


def multi_similar(x, alpha, beta, base, epsilon):
  c, total = unit(x) @ unit(x).T, 0.0
  for i in range(len(x)):
    rest = [k for k in range(len(x)) if k != i]
    positive = [c[i, k] for k in rest if same(i, k)]
    negative = [c[i, k] for k in rest if not same(i, k)]
    if epsilon is not None and positive and negative:
      least, most = min(positive), max(negative)
      positive = [s for s in positive if s < most + epsilon]
      negative = [s for s in negative if s > least - epsilon]
    elif epsilon is not None:
      continue
    near = sum(np.exp(-alpha * (s - base)) for s in positive)
    far = sum(np.exp(beta * (s - base)) for s in negative)
    total += np.log(1 + near) / alpha + np.log(1 + far) / beta
  return total / len(x)


def proxy_anchor(x, alpha, delta):
  c, near, far = unit(x) @ unit(PROXIES).T, [], 0.0
  for j in range(len(PROXIES)):
    own = c[j == LABELS, j]
    if own.size:
      near.append(np.log(1 + np.exp(-alpha * (own - delta)).sum()))
    far += np.log(1 + np.exp(alpha * (c[j != LABELS, j] + delta)).sum())
  return np.mean(near) + far / len(PROXIES)


def soft_triple(x, scale, margin, gamma, tau):
  w, losses = unit(CENTERS), []
  for i, row in enumerate(unit(x)):
    s = []
    for centers in w:
      c = centers @ row
      s.append((np.exp(c / gamma) / np.exp(c / gamma).sum()) @ c)
    e = np.exp(scale * np.array(s))
    own = np.exp(scale * (s[KNOWN[i]] - margin))
    losses.append(-np.log(own / (own + e.sum() - e[KNOWN[i]])))
  k, apart = w.shape[1], 0.0
  for centers in w:
    for t in range(k):
      for other in range(t + 1, k):
        apart += np.sqrt(2 - 2 * centers[other] @ centers[t])
  return np.mean(losses) + tau * apart / (len(w) * k * (k - 1))


def proxy_nca(x, temperature, own_counts):
  losses = []
  for i, row in enumerate(unit(x)):
    distance = ((row - unit(PROXIES)) ** 2).sum(axis=1)
    e = np.exp(-distance / temperature)
    others = e.sum() - (0 if own_counts else e[KNOWN[i]])
    losses.append(-np.log(e[KNOWN[i]] / others))
  return np.mean(losses)


def over_classes(loss, prototypes):
  """A loss as the dense head computes it."""
  objective = loss.definition(len(prototypes)).objective

  def value(x):
    arrays = jnp.asarray(prototypes), x, jnp.asarray(KNOWN)
    if objective.table is None:
      out = reference.loss(*arrays, objective=objective)
    else:
      out = tables.loss(
        *arrays, table=objective.table, num_classes=len(prototypes)
      )
    return out.loss.mean()

  return value


def cosines(x):
  units = x / jnp.linalg.norm(x, axis=1, keepdims=True)
  return units @ jnp.asarray(unit(PROXIES)).T


def mean(function, **options):
  return lambda x: anchors.mean(function(x, jnp.asarray(LABELS), **options))


CASES = {
  "nt_xent": (mean(pairwise.nt_xent, temperature=0.2), (nt_xent, 0.2)),
  "multi_similarity": (
    mean(multi_similarity.multi_similarity),
    (multi_similar, 2.0, 50.0, 1.0, 0.1),
  ),
  "multi_similarity, all pairs": (
    mean(
      multi_similarity.multi_similarity,
      positive_scale=3.0,
      negative_scale=9.0,
      base=0.5,
      epsilon=None,
    ),
    (multi_similar, 3.0, 9.0, 0.5, None),
  ),
  "proxy_anchor": (
    lambda x: proxies.proxy_anchor(cosines(x), jnp.asarray(LABELS)),
    (proxy_anchor, 32.0, 0.1),
  ),
  "soft_triple": (
    over_classes(registry.SoftTriple(centers=3), CENTERS),
    (soft_triple, 20.0, 0.01, 0.1, 0.2),
  ),
  "proxy_nca": (
    over_classes(registry.ProxyNCA(), PROXIES),
    (proxy_nca, 1 / 9, False),
  ),
  "proxy_nca++": (
    over_classes(registry.ProxyNCA(own_counts=True), PROXIES),
    (proxy_nca, 1 / 9, True),
  ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_papers_equation(name):
  loss, (paper, *options) = CASES[name]
  with jax.enable_x64(True):
    value, slope = jax.jit(jax.value_and_grad(loss))(jnp.asarray(X))
  np.testing.assert_allclose(value, paper(X, *options), rtol=1e-12)
  wanted, step = np.zeros_like(X), 1e-5
  for place in np.ndindex(X.shape):
    moved = np.zeros_like(X)
    moved[place] = step
    ends = paper(X + moved, *options), paper(X - moved, *options)
    wanted[place] = (ends[0] - ends[1]) / (2 * step)
  np.testing.assert_allclose(slope, wanted, atol=1e-7 * np.abs(wanted).max())


def test_mining_leaves_pairs_out():
  """Or the case above would not have tested it."""
  mined, everything = (
    mean(multi_similarity.multi_similarity, epsilon=epsilon)(jnp.asarray(X))
    for epsilon in (0.1, None)
  )
  assert 0 < float(mined) < float(everything)


def edges():
  plain = np.random.default_rng(0).normal(size=(6, 4))
  one = np.broadcast_to(plain[:1], plain.shape)
  signs = (-1.0) ** np.arange(6)[:, None]
  return plain, 0 * plain, one, one * signs, 1e6 * plain


@pytest.mark.parametrize("labels", [[0] * 6, list(range(6)), [-1] * 6])
@pytest.mark.parametrize("sharp", [1.0, 1e3])
def test_losses_over_proxies_are_finite(labels, sharp):
  labels = jnp.asarray(labels)

  def anchor(x, w):
    return proxies.proxy_anchor(x @ w.T, labels, scale=32 * sharp)

  def triple(x, w):
    similarity = proxies.soft_similarity(
      jnp.einsum("bd,ckd->bck", x, w[:, None] * jnp.ones((1, 2, 1))),
      gamma=0.1 / sharp,
    )
    value = proxies.soft_triple(similarity, labels, scale=20 * sharp)
    return value.mean() + proxies.centers_apart(w[:, None].repeat(2, 1))

  for loss in (anchor, triple):
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    for x in edges():
      units = unit_vectors.l2_normalize(jnp.asarray(x, jnp.float32))
      value, slopes = step(units, units)
      assert np.isfinite(value)
      assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize(
  "loss",
  [
    pairwise.contrastive,
    pairwise.supcon,
    pairwise.nt_xent,
    pairwise.circle,
    multi_similarity.multi_similarity,
    functools.partial(multi_similarity.multi_similarity, epsilon=None),
  ],
  ids=lambda loss: getattr(loss, "__name__", "multi_similarity, all pairs"),
)
def test_partners_of_the_past_are_like_those_of_the_batch(loss):
  """A batch of four with six before it: the first four anchors of all ten."""
  x, labels = jnp.asarray(X, jnp.float32), jnp.asarray(LABELS)
  order = jnp.array([3, 0, 8, 6, 1, 2, 4, 5, 7, 9])
  x, labels = x[order], labels[order]
  # Two rows hold nothing.
  rows = jnp.concatenate([x[4:], x[:2]])
  names = jnp.concatenate([labels[4:], labels[:2]])
  past = anchors.Past(rows, names, jnp.arange(8) < 6)
  found = loss(x[:4], labels[:4], past=past)
  wanted = loss(x, labels)
  np.testing.assert_allclose(found.loss, wanted.loss[:4], rtol=1e-5)
  np.testing.assert_array_equal(found.terms, wanted.terms[:4])
  alone = loss(x[:4], labels[:4])
  assert not np.array_equal(found.loss, alone.loss)

  def of_past(rows):
    there = anchors.Past(rows, names, past.held)
    return loss(x[:4], labels[:4], past=there).loss.sum()

  assert not jax.grad(of_past)(rows).any()
