"""Small problems of the head, and what tests ask of its answers."""

import functools
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax.head import api, objective, reference, rowwise, storage, tables
from facejax.losses import margins
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim
from helpers import platforms

MESHES = [(1, 1), (2, 2), (8, 8), (8, 2)]


COSFACE_MARGIN = functools.partial(margins.cosface, margin=0.35)


SCHEDULE = optim.make_schedule(
  "polynomial", learning_rate=0.1, total_steps=10, warmup_steps=2
)


OPTIMIZERS = {
  "sgd": optax.sgd(0.1),
  "decay": optim.sgd(SCHEDULE, momentum=0.0, weight_decay=5e-2),
  "momentum": optim.sgd(SCHEDULE, momentum=0.9, weight_decay=5e-4),
  "nesterov": optim.sgd(SCHEDULE, nesterov=True, weight_decay=5e-4),
  "adagrad": optax.adagrad(SCHEDULE),
  "adam": optax.adam(SCHEDULE),
  "adamw": optax.adamw(SCHEDULE, weight_decay=1e-2),
  # Its update reads the old momentum, not the new one.
  "lion": optax.lion(SCHEDULE),
}


COSFACE = objective.Objective(COSFACE_MARGIN, 30.0)


# Any row that takes part changes, even where its gradient is 0.
DECAY = optim.sgd(optax.constant_schedule(0.1), momentum=0.9, weight_decay=5e-2)


class Problem(NamedTuple):
  """What a head is given."""

  prototypes: np.ndarray
  embeddings: np.ndarray
  labels: np.ndarray
  parameters: objective.Parameters = objective.Parameters()


def problem(num_classes, *, batch=16, dim=12, centers=1, seed=0) -> Problem:
  """Random vectors; a third of the examples point away from their class."""
  rng = np.random.default_rng(seed)
  shape = (dim,) if centers == 1 else (centers, dim)
  prototypes = rng.normal(size=(num_classes, *shape)).astype(np.float32)
  labels = rng.integers(num_classes, size=batch).astype(np.int32)
  own = prototypes[labels].reshape(batch, -1, dim)[:, 0]
  noise = rng.normal(size=(batch, dim)).astype(np.float32)
  embeddings = own + noise
  embeddings[::3] = 0.25 * noise[::3] - 0.75 * own[::3]
  return Problem(prototypes, embeddings, labels)


def place(problem, mesh):
  """Prototypes, padded, and embeddings on a mesh."""
  count, *rest = problem.prototypes.shape
  rows = api.Head(COSFACE, count, mesh).rows
  padded = np.zeros((rows, *rest), np.float32)
  padded[:count] = problem.prototypes
  return (
    jax.device_put(padded, mesh_lib.sharding(mesh, mesh_lib.CLASSES)),
    jax.device_put(problem.embeddings, mesh_lib.sharding(mesh, mesh_lib.BATCH)),
  )


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(head, w, x, labels, parameters):
  """Compiled once for equal heads and problems of one size."""

  def loss(w, x, parameters):
    out = head.loss(w, x, labels, parameters=parameters)
    return out.loss.mean(), out

  return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(w, x, parameters)


def evaluate(problem, shape=(1, 1), **options):
  """Values, and gradients for prototypes, embeddings and parameters."""
  mesh = platforms.make_mesh(*shape)
  count = problem.prototypes.shape[0]

  loss_of = options.pop("objective")
  options = {"implementation": "chunked"} | options
  head = api.Head(loss_of, count, mesh, **options)
  (_, out), (dw, *rest) = jax.device_get(
    _evaluate(head, *place(problem, mesh), problem.labels, problem.parameters)
  )
  assert not dw[count:].any(), "padding took part"
  return out, (dw[:count], *rest)


def float64(problem, *, objective):
  """The same by the dense reference in double precision."""
  with jax.enable_x64(True), platforms.on_cpu():
    prototypes, embeddings, parameters = jax.tree.map(
      lambda leaf: jnp.asarray(leaf, jnp.float64),
      (problem.prototypes, problem.embeddings, problem.parameters),
    )

    def loss(w, x, parameters):
      labels = jnp.asarray(problem.labels)
      if objective.table is not None:
        out = tables.loss(
          w, x, labels, table=objective.table, num_classes=len(w)
        )
      else:
        out = reference.loss(
          w, x, labels, objective=objective, parameters=parameters
        )
      return out.loss.mean(), out

    (_, out), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(
      prototypes, embeddings, parameters
    )
    return jax.device_get((out, gradients))


def close(actual, wanted, share=1e-5):
  """Equal up to `share` of the largest entry."""
  assert actual.shape == wanted.shape
  bound = platforms.allowed(share) * np.abs(wanted).max()
  np.testing.assert_allclose(actual, wanted, rtol=0, atol=bound)


def check(actual, expected, share=1e-5, *, cosine=1e-6):
  (out, gradients), (want, wanted) = actual, expected
  rtol, atol = platforms.allowed(share), platforms.allowed(cosine)
  np.testing.assert_allclose(out.loss, want.loss, rtol=rtol, atol=atol)
  np.testing.assert_allclose(out.target_cosine, want.target_cosine, atol=atol)
  np.testing.assert_array_equal(out.correct, want.correct)
  jax.tree.map(functools.partial(close, share=share), gradients, wanted)


def step(
  problem,
  shape=(1, 1),
  *,
  tx,
  head=COSFACE,
  dtype="float32",
  key=None,
  **options,
):
  """A step from a state that is not 0, and where it started."""
  mesh = platforms.make_mesh(*shape)
  w, x = place(problem, mesh)
  by_class = rowwise.class_leaves(tx, w)
  built = api.Head(
    head,
    problem.prototypes.shape[0],
    mesh,
    tx=tx,
    block_size=10,
    storage=dtype,
    optimizer_storage=dtype,
    **options,
  )
  state = jax.tree.map(
    lambda leaf, has_rows: jnp.sin(w) if has_rows else leaf,
    tx.init(w),
    by_class,
  )

  @jax.jit
  def run(w, state, x):
    return built.update(api.HeadState(w, state), x, problem.labels, key=key)

  w, *rows = (
    storage.encode(leaf, dtype)
    for leaf in (w, *rowwise.class_rows(state, by_class))
  )
  state = rowwise.with_class_rows(state, by_class, rows)
  return jax.device_get((run(w, state, x), w, state))


def changed_rows(after, before):
  """Numbers of the rows that differ in a bit."""
  differ = after.reshape(len(after), -1) != before.reshape(len(before), -1)
  return np.flatnonzero(differ.any(axis=1))


def momentum(state):
  """The state's only array with class rows."""
  (leaf,) = (leaf for leaf in jax.tree.leaves(state) if leaf.ndim)
  return leaf


def check_compiled(compiled, *, rows, dim, batch):
  """No logits, no second matrix of prototypes; returns the temporaries."""
  program = compiled.as_text()
  largest = max(
    math.prod(int(n) for n in shape.split(","))
    for shape in re.findall(r"\w\[([\d,]+)\]", program)
  )
  assert largest == rows * dim < rows * batch
  assert not re.findall(rf"= \w+\[{rows},{dim}\]\S* (copy|convert)\(", program)
  return compiled.memory_analysis().temp_size_in_bytes


def abstract(rows, dim, batch, mesh, dtype=jnp.float32):
  """Prototypes, embeddings and labels without memory."""
  by_class = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  by_example = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  return (
    jax.ShapeDtypeStruct((rows, dim), dtype, sharding=by_class),
    jax.ShapeDtypeStruct((batch, dim), jnp.float32, sharding=by_example),
    jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=by_example),
  )
