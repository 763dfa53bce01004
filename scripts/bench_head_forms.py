"""The forms of the head that `bench_head.py` measures: steps, and their states."""

import functools
from typing import NamedTuple

import bench_head_plot as report
import jax
import numpy as np

from facejax.head import api, objective
from facejax.head import storage as storage_lib
from facejax.losses import divergence, margins
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim

METHODS: dict[str, api.Implementation] = {
  "dense": "dense",
  "chunked": "chunked",
  "fused": "fused",
  "fused-saved": "fused",
  "sampled": "partial_fc",
  "sparse": "sparse",
  "alpha": "sparse",
  "fused-bfloat16": "fused",
  "fused-float8": "fused",
  "fused-float8-sgd": "fused",
}


class Kept(NamedTuple):
  """How a method keeps its state: storage of both parts, and the momentum."""

  storage: storage_lib.Storage = "float32"
  optimizer: storage_lib.Storage = "float32"
  momentum: float = 0.9


FLOAT32 = Kept()
KEPT = {
  "fused-bfloat16": Kept("bfloat16", "bfloat16"),
  "fused-float8": Kept("float8", "float8"),
  "fused-float8-sgd": Kept("float8", momentum=0.0),
}


def kept_by(name: str) -> Kept:
  """How the method of this name keeps its state."""
  return KEPT.get(name, FLOAT32)


def make_step(name: str, case: report.Case, tx, mesh, args, block_size=None):
  """A step: (prototypes and optimizer state), batch -> the same, values."""
  cosface = functools.partial(margins.cosface, margin=0.35)
  kept = kept_by(name)
  saved_bytes = 0
  if name == "fused-saved":
    saved_bytes = args.saved_bytes or 4 * case.batch * case.classes

  head = api.Head(
    objective.Objective(
      margin=cosface,
      scale=64.0,
      divergence=divergence.Divergence(1.5) if name == "alpha" else None,
    ),
    case.classes,
    mesh,
    tx=tx,
    implementation=METHODS[name],
    rate=report.RATE,
    block_size=block_size,
    saved_bytes=saved_bytes,
    precision=args.precision,
    storage=kept.storage,
    optimizer_storage=kept.optimizer,
  )

  def step(state, embeddings, labels, count):
    key = jax.random.fold_in(jax.random.key(0), count)
    result = head.update(api.HeadState(*state), embeddings, labels, key=key)
    values = result.output.loss, result.d_embeddings
    return tuple(result.state), values

  return step


def make_state(case: report.Case, mesh, cosine=0.0, kept=FLOAT32):
  """What draws prototypes and optimizer state; the optimizer; a batch.

  With a cosine, embeddings have it with their own prototypes, as after training;
  else they know nothing of them.
  """
  # Too slow for training to change what a step costs.
  rate = optim.make_schedule("constant", learning_rate=1e-4, total_steps=1)
  tx = optim.sgd(rate, momentum=kept.momentum, weight_decay=5e-4)
  head = api.Head(
    objective.Objective(margins.nsl, scale=64.0),
    case.classes,
    mesh,
    tx=tx,
    storage=kept.storage,
    optimizer_storage=kept.optimizer,
  )

  def init():
    return tuple(head.init(jax.random.key(0), dim=case.dim))

  rng = np.random.default_rng(0)
  x = rng.normal(size=(case.batch, case.dim)).astype(np.float32)
  y = rng.integers(0, case.classes, case.batch, dtype=np.int32)
  if cosine:
    own = np.array(jax.jit(lambda: storage_lib.load(init()[0][y]))())
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    x -= (x * own).sum(axis=1, keepdims=True) * own
    x *= np.sqrt(1 - cosine**2) / np.linalg.norm(x, axis=1, keepdims=True)
    x += cosine * own
  batch = mesh_lib.put_batch({"x": x, "y": y}, mesh)
  return init, tx, (batch["x"], batch["y"])


def shardings(init, mesh):
  """Where the state of `make_state` lies: class rows are split."""
  return jax.tree.map(
    lambda leaf: mesh_lib.sharding(
      mesh, mesh_lib.CLASSES if leaf.ndim == 2 else mesh_lib.REPLICATED
    ),
    jax.eval_shape(init),
  )
