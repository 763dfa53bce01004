"""Every loss as it is trained: through the sharded head, against the dense."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import heads, loss_cases

import facejax
from facejax.training.objectives import definition, registry, within_batch

ALL = loss_cases.ALL


def test_every_loss_is_here():
  over_classes = {c for c in ALL if issubclass(c, definition.OverClasses)}
  assert {type(loss) for loss in loss_cases.LOSSES.values()} == over_classes
  within = {c for c in ALL if issubclass(c, definition.WithinBatch)}
  assert over_classes | within == set(ALL)
  assert len({loss.name for loss in ALL}) == len(ALL) == 27


def test_recipes_find_every_loss_by_its_class():
  public = {v for v in vars(registry).values() if isinstance(v, type)}
  assert public == {*ALL, registry.LossConfig}
  for loss in ALL:
    assert getattr(facejax.loss_config, loss.__name__) is loss
    # Frozen, equal by value, and all fields have defaults.
    assert loss() == dataclasses.replace(loss())
  # As recipes called them before.
  assert facejax.pair_loss_config is within_batch
  for name in ("Triplet", "Contrastive", "SupCon", "PairCircle"):
    assert getattr(within_batch, name) is getattr(registry, name)


def prepared(wanted, problem):
  """The problem with the parameters that the loss makes of its batch."""
  if wanted.prepare is None:
    return problem
  out = jax.jit(
    lambda x, c: wanted.prepare(
      *definition.init(wanted, tx=optax.identity(), dtype=jnp.float32)[:3:2],
      definition.Batch(x, c, jax.random.key(5)),
    )
  )(problem.embeddings, np.linspace(-0.4, 0.9, len(problem.labels)))
  return problem._replace(parameters=jax.device_get(out.parameters))


@pytest.mark.parametrize("name", loss_cases.LOSSES)
def test_sharded_in_blocks_equals_dense(name):
  wanted = loss_cases.LOSSES[name].definition(1183)
  bias = wanted.objective.bias
  arrays = heads.problem(1183, dim=12, centers=wanted.centers, seed=3)
  if bias:
    arrays = arrays._replace(embeddings=arrays.embeddings[:, :-1])
  arrays = prepared(wanted, arrays)
  options = {"block_size": 50}
  if wanted.objective.table is not None:
    options = {"implementation": "dense"}
  actual = heads.evaluate(arrays, (8, 8), objective=wanted.objective, **options)
  expected = heads.float64(arrays, objective=wanted.objective)
  heads.check(actual, expected, share=2e-5)
