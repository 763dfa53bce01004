"""Blocks of bfloat16, the form for GPUs, against double precision."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import heads

from facejax.head import (
  api,
  blocks,
  memory,
  objective,
  rowwise,
  shard_plan,
  stages,
  storage,
)
from facejax.runtime import mesh as mesh_lib

SHARE = 0.01  # of the largest entry, as products of bfloat16 have anyway
COSFACE = objective.Objective(heads.COSFACE_MARGIN, 64.0)
PROBLEM = heads.problem(101, dim=512)


def plan(*, objective=COSFACE, shape=(101, 12), **options):
  """Of one shard."""
  mesh = mesh_lib.make_mesh(devices=1)
  options = {"precision": "bfloat16"} | options
  head = api.Head(objective, shape[0], mesh, **options)
  return shard_plan.make_plan(head, shape, 16)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
  """Heads are planned as for a GPU, and run on the CPU."""
  monkeypatch.setattr(mesh_lib, "platform", lambda mesh: "gpu")


def close_enough(actual, wanted, share=SHARE):
  heads.close(np.asarray(actual), np.asarray(wanted), share)


def check(problem, shape, *, loss=COSFACE, share=SHARE):
  """Value and gradients beside the dense form's; returns its losses."""
  out, gradients = heads.evaluate(
    problem, shape, objective=loss, precision="bfloat16", block_size=20
  )
  want, wanted = heads.float64(problem, objective=loss)
  np.testing.assert_allclose(out.loss, want.loss, rtol=0.02, atol=1e-30)
  np.testing.assert_array_equal(out.correct, want.correct)
  for actual, expected in zip(gradients[:2], wanted[:2], strict=True):
    close_enough(actual, expected, share)
  return want.loss


@pytest.mark.parametrize("shape", heads.MESHES)
def test_value_and_gradients(shape):
  check(PROBLEM, shape)


@pytest.mark.parametrize("labels", [[-1, 7, 101, 3], [5, 5, 5, 100]])
def test_strangers_and_repeated_classes(labels):
  labels = np.tile(np.asarray(labels, np.int32), 4)
  check(PROBLEM._replace(labels=labels), (2, 2))


def test_examples_that_are_learnt():
  """The loss vanishes; the target's e^(z - others) is past float32."""
  noise = np.random.default_rng(1).normal(size=PROBLEM.embeddings.shape)
  near = PROBLEM.prototypes[PROBLEM.labels] + 0.1 * noise
  plain = objective.Objective(functools.partial(COSFACE.margin, margin=0.0))
  problem = PROBLEM._replace(embeddings=near.astype(np.float32))
  # Products of bfloat16 alone are off by 1.2 % here, in either form.
  losses = check(problem, (2, 2), loss=plain, share=0.02)
  assert 0 < losses.max() < 1e-20


@pytest.mark.parametrize(
  ("name", "shape", "options"),
  [
    ("momentum", (1, 1), {}),
    ("momentum", (8, 2), {"implementation": "partial_fc", "rate": 0.3}),
    ("momentum", (2, 2), {"dtype": "bfloat16"}),
    ("adagrad", (2, 2), {"implementation": "sparse", "rate": 0.3}),
    ("lion", (1, 1), {}),
  ],
)
def test_update(name, shape, options):
  """A step is that of the float32 head, up to the products' rounding."""
  take = functools.partial(
    heads.step,
    PROBLEM,
    shape,
    tx=heads.OPTIMIZERS[name],
    head=COSFACE,
    key=jax.random.key(3),
    **options,
  )
  (actual, start, _), (want, _, _) = take(precision="bfloat16"), take()
  np.testing.assert_allclose(actual.output.loss, want.output.loss, rtol=0.02)
  np.testing.assert_allclose(
    actual.output.dropped, want.output.dropped, atol=SHARE
  )
  close_enough(actual.d_embeddings, want.d_embeddings)
  before, after, wanted = (
    np.asarray(storage.load(jnp.asarray(w)))
    for w in (start, actual.state.prototypes, want.state.prototypes)
  )
  np.testing.assert_array_equal(
    heads.changed_rows(after, before), heads.changed_rows(wanted, before)
  )
  assert not after[101:].any(), "padding moved"
  # Signs and random rounding turn small differences into large ones.
  if name != "lion" and "dtype" not in options:
    close_enough(after - before, wanted - before)
    pairs = zip(
      jax.tree.leaves(actual.state.optimizer),
      jax.tree.leaves(want.state.optimizer),
      strict=True,
    )
    for leaf, expected in pairs:
      close_enough(leaf, expected)


@pytest.mark.parametrize(
  ("options", "narrow"),
  [
    ({}, True),
    ({"implementation": "sparse"}, True),
    ({"precision": "float32"}, False),
    ({"saved_bytes": 10**9}, False),
    ({"saved_bytes": 10**9, "implementation": "partial_fc"}, True),
    ({"objective": objective.Objective(COSFACE.margin, 128.0)}, False),
    ({"objective": objective.Objective(COSFACE.margin, None)}, False),
    ({"objective": dataclasses.replace(COSFACE, one_vs_all=(1, 1))}, False),
    ({"shape": (101, 3, 12)}, False),
  ],
)
def test_where_it_is_taken(options, narrow):
  assert plan(**options).narrow == narrow


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_keep_float32(monkeypatch, platform):
  monkeypatch.setattr(mesh_lib, "platform", lambda mesh: platform)
  assert not plan().narrow


@pytest.mark.parametrize("implementation", ["fused", "partial_fc", "chunked"])
def test_products_lowered_for_cuda(implementation):
  """From this host: operands of both sides bfloat16, nothing float64."""
  mesh = mesh_lib.make_mesh(devices=2)
  head = api.Head(
    COSFACE,
    1001,
    mesh,
    tx=heads.OPTIMIZERS["momentum"],
    implementation=implementation,
    precision="bfloat16",
  )
  program = memory.traced_step(head, dim=64, batch=16)
  text = program.lower(lowering_platforms=("cuda",)).as_text()
  products = re.findall(r"dot_general .*: \((.*)\) ->", text)
  assert len(products) == 4
  for operands in products:
    assert re.findall(r"x([a-z]+\d+)>", operands) == ["bf16", "bf16"]
  assert "f64" not in text


@pytest.mark.parametrize("listed", [False, True])
def test_find(listed):
  """A row's place in a block, of those that are not stale."""
  walk = blocks.Walk(11, 4)
  if listed:
    order = np.array([8, 2, 0, 9, 4, 1, 3, 10, 5, 6, 7, -1], np.int32)
    walk = blocks.walk_listed(11, 4, jnp.asarray(order))
  seen = []
  for index in range(walk.count):
    block = walk.block(index)
    place = np.asarray(block.find(jnp.arange(-2, 13)))
    inside = place < 4
    rows = np.asarray(block.rows)[place[inside]]
    np.testing.assert_array_equal(rows, np.arange(-2, 13)[inside])
    seen.extend(rows)
  assert sorted(seen) == list(range(11))


@pytest.mark.parametrize("name", heads.OPTIMIZERS)
def test_stages_of_optimizers(name):
  """Both halves together make the step; Lion's cannot be taken apart."""
  tx = heads.OPTIMIZERS[name]
  w, d_w = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
  state = tx.init(w)
  by_class = rowwise.class_leaves(tx, w)
  rows = [leaf + 0.5 for leaf in rowwise.class_rows(state, by_class)]

  def step(d_w, rows, w):
    old = rowwise.with_class_rows(state, by_class, rows)
    updates, new = tx.update(d_w, old, w)
    return [w + updates, *rowwise.class_rows(new, by_class)]

  halves = stages.split(step, d_w, rows, w)
  assert (halves is None) == (name == "lion")
  if halves:
    new = halves.rows(d_w, rows, w)
    new = [halves.prototypes(d_w, new, w), *new]
    jax.tree.map(np.testing.assert_array_equal, new, step(d_w, rows, w))
