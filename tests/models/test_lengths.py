"""Which nets leave their embeddings a length, and which losses read it."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import tiny_nets

from facejax.models import (
  functional,
  inception,
  layers,
  registry,
  zeiler_fergus,
)
from facejax.training import config_checks, recipe

TINY = tiny_nets.TINY | {
  "tiny_inception": inception.InceptionSpec(
    {"3c": inception.BlockSpec(0, (4, 8), (2, 4), "max", 0, stride=2)},
    stem=(8, 8, 8),
  ),
  "tiny_zeiler_fergus": zeiler_fergus.ZeilerFergusSpec(
    (zeiler_fergus.Conv("conv1", 8, 7, 2), "pool1", "rnorm1"),
    hidden=6,
    image_size=(32, 48),
  ),
}


@pytest.mark.parametrize("name", TINY)
def test_lengths_are_those_of_the_embeddings(name, monkeypatch):
  monkeypatch.setitem(registry.SPECS, name, TINY[name])
  net = tiny_nets.build(name)
  params, stats = jax.jit(net.init)(jax.random.key(0))
  embed = jax.jit(lambda *x: net.apply(*x, train=False)[0])
  lengths = np.linalg.norm(embed(params, stats, tiny_nets.images()), axis=1)
  ones = np.allclose(lengths, 1, atol=1e-5)
  assert functional.has_lengths(name) is not ones


@pytest.mark.parametrize(
  "family",
  dict.fromkeys(map(type, registry.SPECS.values())),
  ids=lambda family: family.__name__,
)
def test_a_family_normalises_where_it_has_the_layer_for_it(family):
  """Of the first net of each: nothing is computed."""
  spec = next(s for s in registry.SPECS.values() if type(s) is family)
  found = registry.FAMILIES[family]
  options = {"norm": "batch"} if len(found.norms) > 1 else {}
  size = getattr(spec, "image_size", None) or found.image_size

  def build():
    return found.module(
      spec,
      embedding_dim=8,
      image_size=size,
      dropout=0.0,
      dtype=np.float32,
      rngs=nnx.Rngs(0),
      **options,
    )

  parts = [part for _, part in nnx.iter_graph(nnx.eval_shape(build))]
  ends = any(isinstance(part, layers.UnitEmbedding) for part in parts)
  assert found.unit_embeddings is ends


@pytest.mark.parametrize("loss", ["adaface", "magface"])
def test_losses_that_read_lengths_take_every_net_that_has_them(loss):
  base = recipe.load(f"{loss}.py")
  refused = set()
  for name in functional.NETS:
    size = getattr(registry.SPECS[name], "image_size", None) or (112, 112)
    data = dataclasses.replace(base.data, image_size=size)
    model = dataclasses.replace(base.model, name=name)
    config = dataclasses.replace(base, data=data, model=model)
    try:
      config_checks.validate(config)
    except ValueError as error:
      assert f"model.name={name}: it ends in a normalisation" in str(error)
      refused.add(name)
  assert refused == {
    "nn1", "nn2", "nn3", "nn4", "nn4_small2", "inception_slim",
  }  # fmt: skip
