"""Ten steps of each optimizer in each exact head against plain optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads

from facejax.head import api
from facejax.runtime import mesh as mesh_lib
from facejax.training import optim

CLASSES, STEPS = 21, 10
RATE = optim.make_schedule(
  "cosine", learning_rate=0.1, total_steps=STEPS, warmup_steps=2
)
OPTIMIZERS = {
  "sgd": optim.sgd(RATE, momentum=0.9, weight_decay=1e-2),
  "sgd, nesterov": optim.sgd(RATE, momentum=0.9, nesterov=True),
  "sgd, no momentum": optim.sgd(RATE, momentum=0.0, weight_decay=1e-2),
  "adagrad": optim.adagrad(RATE, weight_decay=1e-2),
  "adamw": optim.adamw(RATE, weight_decay=1e-2),
  "lion": optim.lion(RATE, weight_decay=1e-2),
}
# The same, put together of optax's own parts.
PLAIN = {
  "sgd": optax.chain(
    optax.add_decayed_weights(1e-2), optax.sgd(RATE, momentum=0.9)
  ),
  "sgd, nesterov": optax.sgd(RATE, momentum=0.9, nesterov=True),
  "sgd, no momentum": optax.chain(
    optax.add_decayed_weights(1e-2), optax.sgd(RATE)
  ),
  "adagrad": optax.chain(
    optax.add_decayed_weights(1e-2), optax.adagrad(RATE, 0.1, 1e-7)
  ),
  "adamw": optax.adamw(RATE, weight_decay=1e-2),
  "lion": optax.lion(RATE, weight_decay=1e-2),
}
BATCHES = [heads.problem(CLASSES, seed=seed) for seed in range(STEPS)]
EMBEDDINGS = np.stack([batch.embeddings for batch in BATCHES]).astype(float)
LABELS = np.stack([batch.labels for batch in BATCHES])
START = BATCHES[0].prototypes.astype(float)


def by_hand(tx):
  """Prototypes and losses; softmax of 30 (cos - 0.35) and 30 cos, in full."""

  def loss(w, x, labels):
    unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (x, w)]
    own = jax.nn.one_hot(labels, CLASSES)
    logits = 30.0 * (unit[0] @ unit[1].T - 0.35 * own)
    return -(jax.nn.log_softmax(logits) * own).sum(axis=1).mean()

  @jax.jit
  def train(w):
    def step(carry, batch):
      w, state = carry
      value, gradient = jax.value_and_grad(loss)(w, *batch)
      updates, state = tx.update(gradient, state, w)
      return (optax.apply_updates(w, updates), state), value

    start = w, tx.init(w)
    (w, _), losses = jax.lax.scan(step, start, (EMBEDDINGS, LABELS))
    return w, losses

  return train(START)


def in_head(tx, implementation, devices):
  """The same by a head, split by class over half of the devices."""
  mesh = mesh_lib.make_mesh(devices=devices, model=max(devices // 2, 1))
  head = api.Head(
    heads.COSFACE,
    CLASSES,
    mesh,
    implementation=implementation,
    tx=tx,
    block_size=4,
  )
  padded = np.zeros((head.rows, START.shape[1]))
  padded[:CLASSES] = START

  @jax.jit
  def train(w):
    def step(state, batch):
      result = head.update(state, *batch)
      return result.state, result.output.loss.mean()

    start = api.HeadState(w, head.init_optimizer(w))
    state, losses = jax.lax.scan(step, start, (EMBEDDINGS, LABELS))
    return state.prototypes, losses

  where = mesh_lib.sharding(mesh, mesh_lib.CLASSES)
  w, losses = train(jax.device_put(padded, where))
  return w[:CLASSES], losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_head_is_plain_optax(name):
  with jax.enable_x64(True):
    wanted = jax.device_get(by_hand(PLAIN[name]))
    assert np.abs(wanted[0] - START).max() > 0.01
    for implementation in ("fused", "chunked", "dense"):
      for devices in (1, 8):
        found = jax.device_get(
          in_head(OPTIMIZERS[name], implementation, devices)
        )
        for a, b in zip(found, wanted, strict=True):
          np.testing.assert_allclose(
            a, b, rtol=1e-9, atol=1e-9, err_msg=f"{implementation} {devices}"
          )
