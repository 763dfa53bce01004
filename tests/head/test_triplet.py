"""Mining in blocks against loops over triplets and the dense specification."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.head import triplet as mined
from facejax.losses import anchors, mining, triplet
from facejax.runtime import mesh as mesh_lib

RULES = get_args(triplet.Mining)
MARGIN = 1.1
KEY = jax.random.key(5)
LABELS = {
  "mixed": [0, 0, 1, 1, 1, 2, 3, 3, 4, 1, 0, 7, 7, 7, 5, 1],
  "one identity": [3] * 16,
  "all singletons": list(range(16)),
  "two people": [6] * 11 + [2] * 5,
}


def embeddings(kind, rows=16):
  """Directions whose cosines are exact, so that many distances are equal; or
  ones in which they differ, but for some examples that are there twice."""
  random = np.random.default_rng(rows)
  if kind == "ties":
    return random.choice([-0.5, 0.5], (rows, 4))
  x = random.normal(size=(rows, 4))
  x[rows // 2 + 1 : rows // 2 + 4] = x[1:4]
  return x


def triplets_of(far, labels, rule, draw):
  """(a, p, n) as the definition of each rule has them; loops, O(N^3)."""
  everyone = range(len(labels))
  for a in everyone:
    mates = [p for p in everyone if p != a and labels[p] == labels[a]]
    others = [n for n in everyone if labels[n] != labels[a]]
    if not mates or not others:
      continue
    near = far[a]
    if rule == "hard":
      mates = [max(mates, key=near.__getitem__)]
    for p in mates:
      beyond = [n for n in others if near[n] > near[p]]
      below = [n for n in others if near[n] < near[p] + MARGIN]
      within = [n for n in beyond if n in below]
      nearest = functools.partial(min, key=near.__getitem__)
      if rule == "all":
        chosen = others
      elif rule == "hard":
        chosen = [nearest(others)]
      elif rule == "semi_hard":
        chosen = within
      elif rule == "semi_hard_hardest":
        chosen = [nearest(within)] if within else []
      elif rule == "tensorflow":
        chosen = [nearest(beyond) if beyond else max(others, key=near.item)]
      else:
        chosen = [min(below, key=draw[a, p].__getitem__)] if below else []
      yield from ((a, p, n) for n in chosen)


def brute_force(far, labels, rule):
  """`mining.Weights` of the whole batch, by numpy alone."""
  everyone = jnp.arange(len(labels))
  draw = triplet.shuffled(
    KEY, everyone[:, None], everyone[None, :], count=len(labels)
  )
  want = [np.zeros(len(labels)) for _ in mining.Weights._fields]
  loss, _, terms, active, positive, negative = want
  weights = np.zeros_like(far)
  for a, p, n in triplets_of(far, labels, rule, np.asarray(draw)):
    hinge = far[a, p] - far[a, n] + MARGIN
    terms[a] += 1
    positive[a] += far[a, p]
    negative[a] += far[a, n]
    if hinge > 0:
      loss[a] += hinge
      active[a] += 1
      weights[a, p] += 1
      weights[a, n] -= 1
  return mining.Weights(loss, weights, terms, active, positive, negative)


@pytest.mark.parametrize("rule", RULES)
def test_block_equals_loops(rule):
  weigh = jax.jit(
    functools.partial(mining.weigh, mining=rule, margin=MARGIN, key=KEY)
  )
  with jax.enable_x64(True):
    for kind in ("ties", "twice"):
      far = anchors.distances(embeddings(kind))
      for name, labels in LABELS.items():
        labels = np.array(labels)
        want = brute_force(np.asarray(far), labels, rule)
        # Some anchors in no order.
        block = jnp.array([3, 15, 0, 8, 9, 1, 7], jnp.int32)
        found = weigh(far[block], block, mining.identities(labels))
        for field, value, right in zip(want._fields, found, want, strict=True):
          np.testing.assert_allclose(
            value, right[block], atol=1e-12, err_msg=f"{kind} {name} {field}"
          )
        if name not in ("mixed", "two people"):
          assert not any(np.asarray(x).any() for x in found)


WEIGHTS = np.linspace(-1, 2, 16)


@functools.cache
def on_mesh(shape, **options):
  """Compiled: values, statistics and gradient of a weighted sum."""
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])

  def loss(x, y):
    values, statistics = mined.triplet(
      x, y, mesh=mesh, margin=MARGIN, key=KEY, **options
    )
    return (WEIGHTS.astype(x.dtype) * values.loss).sum(), (values, statistics)

  step = jax.jit(jax.grad(loss, has_aux=True))

  def run(x, labels):
    batch = mesh_lib.put_batch({"x": x, "y": labels}, mesh)
    gradient, found = step(batch["x"], batch["y"])
    return jax.device_get((*found, gradient))

  return run


@functools.cache
def specification(rule, distance):
  """The same without statistics, by the dense loss."""

  def loss(x, labels):
    values = triplet.triplet(
      x, labels, margin=MARGIN, mining=rule, distance=distance, key=KEY
    )
    return (WEIGHTS.astype(x.dtype) * values.loss).sum(), values

  return jax.jit(jax.grad(loss, has_aux=True))


@pytest.mark.parametrize(
  ("shape", "block_size", "distance", "rule"),
  [
    *(((1, 1), 5, "euclidean", rule) for rule in RULES),
    *(((2, 2), None, "squared", rule) for rule in RULES[::2]),
    *(((8, 8), 1, "angle", rule) for rule in RULES[1::2]),
    *(((8, 2), 2, "squared", rule) for rule in RULES),
  ],
)
def test_meshes_equal_dense(shape, block_size, distance, rule):
  labels = np.array(LABELS["mixed"], np.int32)
  options = {"mining": rule, "distance": distance, "block_size": block_size}
  with jax.enable_x64(True):
    for kind in ("ties", "twice"):
      x = embeddings(kind)
      values, found, gradient = on_mesh(shape, **options)(x, labels)
      slope, want = jax.device_get(specification(rule, distance)(x, labels))
      assert gradient.dtype == np.float64
      assert want.terms.sum() > 0 and np.abs(slope).max() > 0.1
      np.testing.assert_array_equal(values.terms, want.terms)
      np.testing.assert_array_equal(values.active, want.active)
      np.testing.assert_allclose(values.loss, want.loss, atol=1e-12)
      np.testing.assert_allclose(gradient, slope, atol=1e-12)
      check_statistics(found, anchors.distances(x, kind=distance), labels, rule)


def check_statistics(found, far, labels, rule):
  want = brute_force(np.asarray(far), labels, rule)
  count = want.terms.sum()
  active = want.active.sum() / count
  near = want.positive_distance.sum() / count
  apart = want.negative_distance.sum() / count
  # Of the seven people 2, 4 and 5 have one example.
  np.testing.assert_allclose(
    found, (count, active, 3 / 7, near, apart), rtol=1e-6
  )


def test_float32():
  """A batch in which distances differ by more than rounding."""
  labels = np.array(LABELS["mixed"], np.int32)
  x = np.random.default_rng(4).normal(size=(16, 6)).astype(np.float32)
  values, found, gradient = on_mesh((8, 8), mining="tensorflow")(x, labels)
  slope, want = specification("tensorflow", "squared")(x, labels)
  assert values.loss.dtype == gradient.dtype == np.float32
  np.testing.assert_array_equal(values.terms, want.terms)
  np.testing.assert_allclose(values.loss, want.loss, rtol=1e-5)
  np.testing.assert_allclose(gradient, slope, atol=1e-5)
  check_statistics(found, anchors.distances(x), labels, "tensorflow")


@pytest.mark.parametrize("rule", RULES)
def test_edges_are_finite(rule):
  """Collapsed, opposite and zero embeddings; batches without a triplet."""
  x = np.random.default_rng(1).normal(size=(16, 4)).astype(np.float32)
  same, zeros = np.broadcast_to(x[:1], x.shape) * 1, x * 1
  same[1::2] *= -3
  zeros[::3] = 0
  mesh = mesh_lib.make_mesh(devices=2)

  @jax.jit
  def run(x, labels):
    def loss(x):
      values, statistics = mined.triplet(
        x,
        labels,
        mesh=mesh,
        margin=MARGIN,
        mining=rule,
        distance="angle",
        key=KEY,
      )
      return anchors.mean(values), statistics

    return jax.value_and_grad(loss, has_aux=True)(x)

  for batch in (x, same, abs(same), zeros, 0 * x):
    for name, labels in LABELS.items():
      (value, found), gradient = run(batch, np.array(labels, np.int32))
      assert np.isfinite(value) and np.isfinite(gradient).all(), name
      assert np.isfinite(found).all(), name
      if name in ("one identity", "all singletons"):
        assert value == found.selected == 0 and not gradient.any()
        assert found.without_positive == (name == "all singletons")


def test_collapse_costs_the_margin():
  """And the statistics show it: the distances are zero."""
  x = jnp.ones((16, 4))
  labels = jnp.array(LABELS["two people"])
  values, found = mined.triplet(
    x,
    labels,
    mesh=mesh_lib.make_mesh(devices=1),
    margin=MARGIN,
    mining="hard",
  )
  np.testing.assert_allclose(values.loss, MARGIN, atol=1e-6)
  assert found.positive_distance < 1e-6 and found.negative_distance < 1e-6


def test_what_is_not_a_number_stays_visible():
  x = embeddings("twice").astype(np.float32)
  x[3] = np.nan
  labels = np.array(LABELS["mixed"], np.int32)
  values, *_ = on_mesh((8, 8), mining="tensorflow")(x, labels)
  assert np.isnan(values.loss[3])
  x[:] = np.nan
  values, *_ = on_mesh((8, 8), mining="tensorflow")(x, labels)
  assert np.isnan(values.loss).all()


def test_random_takes_each_violator_as_often():
  """Over keys: 4000 draws of each pair, tested by chi square."""
  far = anchors.distances(embeddings("twice").astype(np.float32))
  labels = np.array(LABELS["mixed"])
  rows = jnp.arange(16, dtype=jnp.int32)
  people = mining.identities(labels)

  @jax.jit
  @jax.vmap
  def drawn(key):
    chosen = triplet.mine(
      far, labels, mining="random", margin=MARGIN, key=key
    ).negative
    found = mining.weigh(
      far, rows, people, mining="random", margin=MARGIN, key=key
    )
    return chosen, found.weights

  chosen, weights = jax.device_get(
    drawn(jax.random.split(jax.random.key(0), 4000))
  )
  far = np.asarray(far)
  same = labels[:, None] == labels[None, :]
  total, freedom = 0.0, 0
  for a, p in np.argwhere(same & ~np.eye(16, dtype=bool)):
    allowed = ~same[a] & (far[a] < far[a, p] + MARGIN)
    counts = np.bincount(chosen[:, a, p], minlength=16)
    assert counts[allowed].sum() == (4000 if allowed.any() else counts.sum())
    if allowed.sum() > 1:
      even = 4000 / allowed.sum()
      total += ((counts[allowed] - even) ** 2 / even).sum()
      freedom += allowed.sum() - 1
  # 4 standard deviations; the draws of the pairs are independent.
  assert freedom > 100
  assert abs(total - freedom) < 4 * np.sqrt(2 * freedom)
  # The blocks make the same draws: anchor 6 has one positive, 7.
  np.testing.assert_array_equal(weights[:, 6].argmin(axis=1), chosen[:, 6, 7])


@pytest.mark.parametrize("pair", [(0, 1), (2, 9)])
def test_random_order_belongs_to_the_pair(pair):
  everyone = jnp.arange(16)
  table = triplet.shuffled(KEY, everyone[:, None], everyone[None, :], count=16)
  alone = triplet.shuffled(KEY, *(jnp.array([i]) for i in pair), count=16)
  np.testing.assert_array_equal(table[pair], alone[0])
  assert len(np.unique(table)) > 0.999 * table.size
  assert (np.asarray(table) < triplet.LAST).all()


@pytest.mark.program_of_users
@pytest.mark.parametrize("rule", ["all", "random"])
def test_memory_of_a_large_batch(rule):
  """16,384 x 512 on eight devices: no array of all distances on any."""
  mesh = mesh_lib.make_mesh(devices=8)
  split = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  x = jax.ShapeDtypeStruct((16_384, 512), jnp.float32, sharding=split)
  labels = jax.ShapeDtypeStruct((16_384,), jnp.int32, sharding=split)

  def loss(x, labels):
    values, statistics = mined.triplet(
      x, labels, mesh=mesh, margin=0.2, mining=rule, key=KEY
    )
    return anchors.mean(values), statistics

  step = jax.jit(jax.value_and_grad(loss, has_aux=True))
  memory = step.lower(x, labels).compile().memory_analysis()
  assert memory.temp_size_in_bytes < 2**28


def test_mistakes_are_told():
  mesh = mesh_lib.make_mesh(devices=8)
  call = functools.partial(mined.triplet, mesh=mesh, margin=0.2)
  x, labels = jnp.ones((16, 2)), jnp.arange(16)
  with pytest.raises(ValueError, match="batch=12 .* by the 8 devices"):
    call(x[:12], labels[:12], mining="all")
  with pytest.raises(ValueError, match="choose one of"):
    call(x, labels, mining="easy")  # pyright: ignore
  with pytest.raises(ValueError, match="choose one of"):
    call(x, labels, mining="all", distance="cosine")  # pyright: ignore
  with pytest.raises(ValueError, match="pass a `key`"):
    call(x, labels, mining="random")
  with pytest.raises(ValueError, match="block_size=0"):
    call(x, labels, mining="all", block_size=0)
