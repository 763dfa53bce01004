"""Losses of all cosines at once, and proxy NCA, over devices and strangers."""

import dataclasses
import re

import jax
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api, objective
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib
from facejax.training.objectives import registry

CLASSES = 37  # 8 shards hold 40 rows
LOSSES = {
  "proxy_anchor": registry.ProxyAnchor(),
  "soft_triple": registry.SoftTriple(centers=3),
  "soft_triple of one": registry.SoftTriple(centers=1),
}


def with_strangers(centers):
  problem = heads.problem(CLASSES, centers=centers)
  labels = problem.labels.copy()
  labels[1:13:3] = [-1, CLASSES, CLASSES + 2, 10**6]
  return problem._replace(labels=labels)


@pytest.mark.parametrize("shape", heads.MESHES)
@pytest.mark.parametrize("name", LOSSES)
def test_any_mesh_equals_float64(name, shape):
  wanted = LOSSES[name].definition(CLASSES)
  problem = with_strangers(wanted.centers)
  found = heads.evaluate(
    problem, shape, objective=wanted.objective, implementation="dense"
  )
  expected = heads.float64(problem, objective=wanted.objective)
  heads.check(found, expected, share=2e-5)
  assert not found[0].correct[1:13:3].any()


@pytest.mark.parametrize("name", LOSSES)
def test_steps_learn(name):
  wanted = LOSSES[name].definition(CLASSES)
  problem = heads.problem(CLASSES, centers=wanted.centers)
  head = api.Head(
    wanted.objective,
    CLASSES,
    mesh_lib.make_mesh(devices=8),
    tx=optax.sgd(0.01),
    implementation="dense",
    centers=wanted.centers,
  )
  state = head.init(jax.random.key(0), dim=12)
  step = jax.jit(head.update)
  losses = []
  for _ in range(4):
    done = step(state, problem.embeddings, problem.labels)
    state = done.state
    losses.append(float(done.output.loss.mean()))
  assert np.isfinite(losses).all() and losses[-1] < losses[0]
  # Rows beyond the classes stay 0.
  assert not np.asarray(state.prototypes)[CLASSES:].any()


def test_only_dense_has_a_table():
  wanted = LOSSES["proxy_anchor"].definition(CLASSES).objective
  mesh = mesh_lib.make_mesh(devices=1)
  for other in ("fused", "chunked", "partial_fc", "sparse"):
    with pytest.raises(
      ValueError, match="needs all cosines at once: use dense"
    ):
      api.Head(wanted, CLASSES, mesh, implementation=other)


NCA = objective.Objective(margins.nsl, 18.0, own_counts=False)


@pytest.mark.parametrize("implementation", ["fused", "chunked", "partial_fc"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 2)])
def test_proxy_nca_in_blocks_equals_dense(implementation, shape):
  problem = with_strangers(1)
  options = {"rate": 1.0, "key": jax.random.key(0)}
  if implementation != "partial_fc":
    options = {}
  found = heads.step(
    problem,
    shape,
    tx=heads.DECAY,
    head=NCA,
    implementation=implementation,
    **options,
  )[0]
  expected = heads.step(
    problem, tx=heads.DECAY, head=NCA, implementation="dense"
  )[0]
  np.testing.assert_allclose(
    found.output.loss, expected.output.loss, rtol=1e-4, atol=1e-4
  )
  heads.close(found.d_embeddings, expected.d_embeddings, 1e-4)
  rows = len(expected.state.prototypes)
  heads.close(found.state.prototypes[:rows], expected.state.prototypes, 1e-5)


def test_proxy_nca_is_of_softmax():
  with pytest.raises(ValueError, match="leave one_vs_all=None"):
    dataclasses.replace(NCA, one_vs_all=(1.0, 1.0))
  with pytest.raises(ValueError, match="in which the own class counts"):
    api.Head(
      NCA, CLASSES, mesh_lib.make_mesh(devices=1), implementation="sparse"
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_table_is_split_by_class(name):
  """Also where the classes do not divide by the devices."""
  wanted = LOSSES[name].definition(CLASSES)
  mesh = mesh_lib.make_mesh(devices=8)
  head = api.Head(
    wanted.objective,
    CLASSES,
    mesh,
    tx=optax.sgd(0.01),
    implementation="dense",
    centers=wanted.centers,
  )
  state = jax.eval_shape(lambda: head.init(jax.random.key(0), dim=12))
  rows = jax.ShapeDtypeStruct(
    state.prototypes.shape,
    np.float32,
    sharding=mesh_lib.sharding(mesh, mesh_lib.CLASSES),
  )
  batch = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  compiled = (
    jax.jit(head.update)
    .lower(
      state._replace(prototypes=rows),
      jax.ShapeDtypeStruct((16, 12), np.float32, sharding=batch),
      jax.ShapeDtypeStruct((16,), np.int32, sharding=batch),
    )
    .compile()
  )
  shapes = set(re.findall(r"f32\[([\d,]+)\]", compiled.as_text()))
  whole = {
    shape
    for shape in shapes
    if {"37", "40", "111", "120"} & set(shape.split(","))
  }
  assert not whole, f"all classes on a device: {whole}"
