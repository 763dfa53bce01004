"""The kernels for TPUs, interpreted, against the dense head in float64.

Interpreted, they compute in float32 as the other heads do. That they compile
is asked of a TPU's compiler where it is installed.
"""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api, hoisting, kernel_tiles, objective
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib

ARCFACE = objective.Objective(
  functools.partial(margins.arcface, margin=0.5, guard="fallback"), 30.0
)


def take_step(problem, shape, *, head=heads.COSFACE, **options):
  """Values, and gradients for prototypes and embeddings, of one step."""
  count = len(problem.prototypes)
  mesh = mesh_lib.make_mesh(devices=shape[0], model=shape[1])
  # With a rate of 1 the prototypes move by their gradient.
  built = api.Head(
    head,
    count,
    mesh,
    tx=optax.sgd(1.0),
    implementation="pallas",
    **{"block_size": 16} | options,
  )
  w, x = heads.place(problem, mesh)

  @jax.jit
  def run(w, x):
    state = api.HeadState(w, built.init_optimizer(w))
    return built.update(state, x, problem.labels, parameters=problem.parameters)

  done, w = jax.device_get((run(w, x), w))
  moved = w - done.state.prototypes
  assert not moved[count:].any(), "padding moved"
  gradients = moved[:count], done.d_embeddings, done.d_parameters
  return done.output, gradients


@pytest.mark.parametrize(
  ("head", "num_classes", "shape", "precision", "share"),
  [
    (heads.COSFACE, 32, (1, 1), "bfloat16", 5e-2),
    (ARCFACE, 101, (2, 2), "float32", 1e-5),
    (heads.COSFACE, 7, (8, 8), "float32", 1e-5),
  ],
)
def test_equals_dense(head, num_classes, shape, precision, share):
  """Tiles that are whole, and not; shards with one class, and none."""
  problem = heads.problem(num_classes)
  heads.check(
    take_step(problem, shape, head=head, precision=precision),
    heads.float64(problem, objective=head),
    share,
    # Of queries rounded to 2^-9 of themselves.
    cosine=2**-8 if precision == "bfloat16" else 1e-6,
  )


def test_strangers_and_margins_of_each_example_equal_dense():
  """In a batch of several chunks."""
  problem = heads.problem(21, batch=520)
  problem.labels[[0, 5]] = -1, 21
  margin = np.linspace(0, 0.5, 520, dtype=np.float32)
  problem = problem._replace(
    parameters=objective.Parameters(margin={"margin": margin})
  )
  head = objective.Objective(margins.cosface, 30.0)
  heads.check(
    take_step(problem, (1, 1), head=head),
    heads.float64(problem, objective=head),
  )


def test_two_cores_share_the_tiles(monkeypatch):
  """Three tiles, so that one has a turn without work; and vectors of 0."""
  make_tiles = kernel_tiles.make_tiles

  def on_two_cores(*args):
    return make_tiles(*args)._replace(cores=2)

  monkeypatch.setattr(kernel_tiles, "make_tiles", on_two_cores)
  problem = heads.problem(48)
  problem.prototypes[[4, problem.labels[3]]] = 0
  problem.embeddings[[2, 3]] = 0
  out, gradients = take_step(problem, (1, 1))
  want, wanted = heads.float64(problem, objective=heads.COSFACE)
  heads.close(out.loss, want.loss)
  jax.tree.map(heads.close, gradients, wanted)
  assert not gradients[0][4].any()


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_optimizers_equal_fused(name):
  """State and all; a step that is not the first."""
  tx = heads.OPTIMIZERS[name]
  mesh = mesh_lib.make_mesh(devices=1)
  problem = heads.problem(32)

  def train(implementation, steps=3):
    head = api.Head(
      heads.COSFACE,
      32,
      mesh,
      tx=tx,
      implementation=implementation,
      block_size=16,
    )

    def step(state, _):
      done = head.update(state, problem.embeddings, problem.labels)
      return done.state, done.output.loss

    w = jnp.asarray(problem.prototypes)
    start = api.HeadState(w, tx.init(w))
    return jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(start)

  actual, want = (jax.device_get(train(name)) for name in ("pallas", "fused"))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
    actual,
    want,
  )


@pytest.mark.parametrize(
  ("head", "options", "words"),
  [
    ({"one_vs_all": (0.7, 0.3)}, {}, "one-vs-all"),
    ({"negative": lambda c, y: c}, {}, "change other classes' logits"),
    ({"unit_prototypes": False}, {}, "prototypes of any length"),
    ({"scale": None}, {}, "scale=None"),
    ({"scale": 128.0}, {}, "scale=128"),
    ({}, {"centers": 3}, "centers=3"),
    ({}, {"storage": "bfloat16"}, "bfloat16"),
    ({}, {"optimizer_storage": "bfloat16"}, "bfloat16"),
    ({}, {"saved_bytes": 1}, "saved exponentials"),
  ],
)
def test_what_has_no_kernel_is_refused(head, options, words):
  mesh = mesh_lib.make_mesh(devices=1)
  built = objective.Objective(heads.COSFACE_MARGIN, **{"scale": 30.0} | head)
  with pytest.raises(ValueError, match=f"pallas.*{words}.*: use fused"):
    api.Head(built, 9, mesh, implementation="pallas", **options)


def test_copies_of_the_classes_are_refused():
  mesh = mesh_lib.make_mesh(devices=4, model=2)
  with pytest.raises(ValueError, match="mesh.model.*: use fused"):
    api.Head(heads.COSFACE, 9, mesh, implementation="pallas")


def test_state_of_another_shape_is_refused():
  def init(params):
    return jnp.zeros(params.shape[:1])

  def update(gradient, state, params=None):
    return gradient, state + (gradient**2).sum(axis=1)

  tx = optax.GradientTransformation(init, update)
  problem = heads.problem(9)
  head = api.Head(
    heads.COSFACE,
    9,
    mesh_lib.make_mesh(devices=1),
    tx=tx,
    implementation="pallas",
  )
  w = jnp.asarray(problem.prototypes)
  state = api.HeadState(w, head.init_optimizer(w))
  with pytest.raises(ValueError, match=r"float32\[9\]: use fused"):
    jax.eval_shape(head.update, state, problem.embeddings, problem.labels)


def test_an_optimizer_with_an_array_of_its_own_is_refused():
  mask = jnp.arange(3.0)
  block = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  with pytest.raises(ValueError, match=r"array \(3,\) of its own.*use fused"):
    hoisting.hoist(lambda x: [x * mask[None]], [block])


@pytest.mark.tpu_compiler
@pytest.mark.parametrize("chip", ["v5e:2x2", "v5p:2x2x2", "v6e:2x2"])
def test_compiles_for_tpus_in_place(chip):
  """In a process of its own, for it asks JAX for a TPU's compiler."""
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join(sys.path),
  }
  done = subprocess.run(
    [sys.executable, "-m", "helpers.tpu_kernels", chip],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads(done.stdout.splitlines()[-1])
  # Prototypes and momentum are written where they lie; beside them there is
  # nothing of their size.
  assert found["aliased"] >= 2 * found["prototypes"]
  assert found["temporaries"] <= 4 * found["batch"]
  assert found["kernels"] == 2
  assert not found["copies"]
  assert "multiple of 128" in found["odd"]
  assert "take a smaller batch" in found["large"]
