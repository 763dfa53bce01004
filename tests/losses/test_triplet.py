"""Triplet mining against loops, and at the edges of what a batch can be."""

import functools
import itertools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.losses import anchors, triplet
from facejax.runtime import unit_vectors

# The random rule is tested with mining in blocks.
MININGS = [rule for rule in get_args(triplet.Mining) if rule != "random"]
KINDS = get_args(anchors.Distance)
BATCHES = {
  "one identity": [0] * 6,
  "all singletons": list(range(6)),
  "two people": [0, 0, 0, 1, 1, 1],
  "one example": [0],
}


def embeddings(name, rows):
  """Unusual embeddings, [rows, 4] float32."""
  x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
  if name == "zeros":
    x[::2] = 0
  elif name == "duplicates":
    x[:] = x[0]
    x[1::2] *= 3
  elif name == "opposite":
    x[:] = x[0]
    x[1::2] *= -2
  elif name == "scales":
    x *= np.float32(10.0) ** np.arange(-9, 9, 3)[:, None]
  return jnp.asarray(x[:rows], jnp.float32)


def loops(matrix, labels, mining, margin):
  """The definition of each rule, triplet by triplet."""
  everyone = range(len(labels))
  result = []
  for a in everyone:
    mates = [p for p in everyone if p != a and labels[p] == labels[a]]
    others = [n for n in everyone if labels[n] != labels[a]]
    far = matrix[a]
    if not others or not mates:
      continue
    if mining == "all":
      result += [(a, p, n) for p in mates for n in others]
    elif mining == "hard":
      hardest = max(mates, key=far.__getitem__)
      result += [(a, hardest, min(others, key=far.__getitem__))]
    else:
      for p in mates:
        beyond = sorted(
          (n for n in others if far[n] > far[p]), key=far.__getitem__
        )
        within = [n for n in beyond if far[n] < far[p] + margin]
        if mining == "semi_hard":
          result += [(a, p, n) for n in within]
        elif mining == "semi_hard_hardest":
          result += [(a, p, n) for n in within[:1]]
        else:
          farthest = max(others, key=far.__getitem__)
          result += [(a, p, beyond[0] if beyond else farthest)]
  return sorted(result)


@pytest.mark.parametrize("mining", MININGS)
def test_mining_is_its_definition(mining):
  random = np.random.default_rng(1)
  mine = jax.jit(functools.partial(triplet.mine, mining=mining, margin=0.4))
  for labels in random.integers(0, 5, (5, 12)):
    x = jnp.asarray(random.normal(size=(12, 3)), jnp.float32)
    matrix = anchors.distances(x)
    selected = mine(matrix, labels)
    kept = np.asarray(selected.kept)
    columns = [np.broadcast_to(i, kept.shape)[kept] for i in selected[:3]]
    want = loops(np.asarray(matrix), labels, mining, 0.4)
    assert sorted(zip(*columns, strict=True)) == want

    values = triplet.hinge(matrix, selected, margin=0.4)
    hinges = np.zeros(12)
    for a, p, n in want:
      hinges[a] += max(0, matrix[a, p] - matrix[a, n] + 0.4)
    np.testing.assert_allclose(values.loss, hinges, atol=1e-5)
    np.testing.assert_array_equal(
      values.terms, np.bincount([a for a, *_ in want], minlength=12)
    )


@pytest.mark.parametrize("mining", MININGS)
@pytest.mark.parametrize("kind", KINDS)
def test_finite(mining, kind):
  loss = jax.jit(
    jax.value_and_grad(
      lambda x, labels: anchors.mean(
        triplet.triplet(x, labels, margin=0.3, mining=mining, distance=kind)
      )
    )
  )
  kinds = ("plain", "zeros", "duplicates", "opposite", "scales")
  for name, (batch, labels) in itertools.product(kinds, BATCHES.items()):
    value, slope = loss(embeddings(name, len(labels)), jnp.array(labels))
    assert np.isfinite(value) and np.isfinite(slope).all(), (name, batch)
    if batch != "two people":
      assert value == 0 and (np.asarray(slope) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_collapsed_batch_costs_the_margin(kind):
  """The loss of a network that maps everything to one point."""
  x, labels = embeddings("duplicates", 6), jnp.array(BATCHES["two people"])
  values = triplet.triplet(x, labels, margin=0.3, mining="hard", distance=kind)
  np.testing.assert_allclose(values.loss, 0.3, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 128, 1024])
def test_equal_directions_are_no_distance_apart(dim):
  """Whatever float32 makes of them; and the slope there is not infinite."""
  random = np.random.default_rng(2)
  x = random.normal(size=(64, dim)) * 10 ** random.uniform(-3, 3, (64, 1))
  x = jnp.asarray(np.concatenate([x, 3 * x]), jnp.float32)
  for kind in ("euclidean", "angle"):
    matrix = np.asarray(anchors.distances(x, kind=kind))
    assert (matrix[:64, 64:].diagonal() == 0).all()
    assert (matrix.diagonal() == 0).all()


@pytest.mark.parametrize(
  "kind, of_angle",
  [
    ("squared", lambda angle: 4 * np.sin(angle / 2) ** 2),
    ("euclidean", lambda angle: 2 * np.sin(angle / 2)),
    ("angle", lambda angle: angle),
  ],
)
def test_distance_of_cosines(kind, of_angle):
  angles = np.linspace(0.01, np.pi - 0.01, 50)
  far = anchors.distance(jnp.cos(jnp.asarray(angles)), kind=kind)
  # Of an angle of 0.01 the float32 cosine leaves three digits.
  np.testing.assert_allclose(far, of_angle(angles), rtol=2e-3, atol=1e-6)
  ends = jnp.array([1.0, -1.0, 1.0000001, -1.0000001])
  want = of_angle(np.array([0, np.pi, 0, np.pi]))
  np.testing.assert_allclose(anchors.distance(ends, kind=kind), want, atol=1e-6)


def test_distances_of_directions():
  x = embeddings("plain", 6)
  units = unit_vectors.l2_normalize(x)
  direct = ((units[:, None] - units[None]) ** 2).sum(-1)
  np.testing.assert_allclose(anchors.distances(x), direct, atol=1e-6)
  np.testing.assert_allclose(anchors.distances(5 * x), direct, atol=1e-6)


def test_vmap_and_bfloat16():
  x = jax.random.normal(jax.random.key(0), (3, 6, 4), jnp.bfloat16)
  labels = jnp.array(BATCHES["two people"])
  loss = functools.partial(triplet.triplet, labels=labels, mining="all")
  batches = jax.vmap(loss)(x)
  assert batches.loss.dtype == jnp.float32 and batches.loss.shape == (3, 6)
  for i in range(3):
    one = loss(x[i].astype(jnp.float32))
    np.testing.assert_allclose(batches.loss[i], one.loss, rtol=1e-5)
    np.testing.assert_array_equal(batches.terms[i], one.terms)


def test_explicit_sums_by_anchor():
  matrix = anchors.distances(embeddings("plain", 6))
  table = np.array([[0, 1, 3], [0, 2, 4], [5, 4, 0]])
  values = triplet.hinge(matrix, triplet.explicit(table), margin=9.0)
  assert values.terms.tolist() == [2, 0, 0, 0, 0, 1]
  np.testing.assert_allclose(
    values.loss.sum(),
    sum(matrix[a, p] - matrix[a, n] + 9 for a, p, n in table),
    rtol=1e-6,
  )


def test_mean_over_active_leaves_out_the_learned():
  values = anchors.AnchorLoss(
    jnp.array([1.0, 0.0]), jnp.array([3, 1]), jnp.array([2, 0])
  )
  assert anchors.mean(values) == 0.25
  assert anchors.mean(values, over="active") == 0.5


@pytest.mark.parametrize(
  "call",
  [
    lambda x: triplet.triplet(x, jnp.arange(6), mining="easy"),  # pyright: ignore
    lambda x: triplet.triplet(x, jnp.arange(6), distance="cosine"),  # pyright: ignore
    lambda x: anchors.mean(triplet.triplet(x, jnp.arange(6)), over="some"),  # pyright: ignore
  ],
)
def test_unknown_option_lists_choices(call):
  with pytest.raises(ValueError, match="choose one of"):
    call(embeddings("plain", 6))


def test_explicit_needs_three_columns():
  with pytest.raises(ValueError, match=r"\[triplets, 3\]"):
    triplet.explicit(np.zeros((2, 2), int))
