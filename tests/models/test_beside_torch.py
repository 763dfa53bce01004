"""Against plain PyTorch: weights in, the same embeddings out, weights back."""

import jax
import numpy as np
import pytest

from facejax.models import (
  functional,
  inception_resnet_rows,
  ir,
  iresnet,
  mobilefacenet,
  registry,
  torch_names,
  vit,
)

pytest.importorskip("torch", reason="needs the bench extra")

from helpers import torch_more_nets, torch_nets

# A map that is not square shows in what order it is flattened.
SIZE = (32, 48)
TWINS = ["iresnet18", "iresnet50", "sphereface20", "mobilefacenet", "vit_t"]
# What the twins above have not: name -> our net, the twin.
VARIANTS = {
  "iresnet with se": (
    iresnet.IResNetSpec((1, 1, 1, 1), (16, 32, 48, 64), se=True),
    lambda **options: torch_nets.IResNet(
      (1, 1, 1, 1), widths=(16, 32, 48, 64), se=True, **options
    ),
  ),
  "ir with se": (
    ir.IRSpec((2, 1, 1, 1), (16, 32, 48, 64), se=True),
    lambda **options: torch_more_nets.IR(
      (2, 1, 1, 1), widths=(16, 32, 48, 64), se=True, **options
    ),
  ),
  "ir of face.evoLVe": (
    ir.IRSpec(
      (1, 1, 1, 1),
      (16, 32, 48, 64),
      inner_bn=False,
      embedding_scale=True,
      embedding_bias=True,
    ),
    lambda **options: torch_more_nets.IR(
      (1, 1, 1, 1), widths=(16, 32, 48, 64), evolve=True, **options
    ),
  ),
  "vit with patches of 8": (
    vit.ViTSpec(32, 2, heads=4, patch=8, mlp_ratio=3),
    lambda **options: torch_nets.ViT(
      32, 2, heads=4, patch=8, ratio=3, **options
    ),
  ),
  "inception_resnet": (
    inception_resnet_rows.InceptionResNetSpec((1, 0, 1)),
    lambda image_size, **options: torch_more_nets.InceptionResnetV1(
      repeats=(1, 0, 1), **options
    ),
  ),
  "grouped second layer": (
    mobilefacenet.MobileFaceNetSpec(2, (1, 0, 0, 1)),
    lambda **options: torch_nets.MobileFaceNet(2, (1, 0, 0, 1), **options),
  ),
  "blocks at the first resolution": (
    mobilefacenet.MobileFaceNetSpec(1, (2, 0, 0, 0)),
    lambda **options: torch_nets.MobileFaceNet(1, (2, 0, 0, 0), **options),
  ),
}


def pair(name, *, dim=32, size=SIZE):
  """A net, its variables, and the twin that they came from."""
  net = functional.build(name, embedding_dim=dim, image_size=size)
  make = torch_nets.NETS.get(name) or VARIANTS[name][1]
  twin = torch_nets.randomized(make(dim=dim, image_size=size))
  return net, torch_names.from_torch(net, torch_nets.arrays(twin)), twin


def images(batch=6, size=SIZE):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)


def assert_close(actual, expected):
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


def check_embeddings(net, variables, twin, batch):
  """In evaluation and in training, and what training remembers."""
  apply = jax.jit(net.apply, static_argnames="train")
  for train in (False, True):
    actual, stats = apply(*variables, batch, train=train)
    assert_close(actual, torch_nets.embed(twin, batch, train=train))
  back = torch_names.to_torch(net, (variables[0], stats))
  for name, expected in torch_nets.arrays(twin).items():
    if "running" in name:
      assert_close(back[name], expected)


def check_round_trip(net, variables, twin):
  """Back to the very arrays that they came from, and here once more."""
  back = torch_names.to_torch(net, variables)
  expected = torch_nets.arrays(twin)
  assert back.keys() == {x for x in expected if "num_batches" not in x}
  for name, array in back.items():
    np.testing.assert_array_equal(array, expected[name], name)
  again = torch_names.from_torch(net, back)
  jax.tree.map(np.testing.assert_array_equal, again, variables)
  tensors = {x: torch_nets.torch.from_numpy(y) for x, y in back.items()}
  assert not twin.load_state_dict(tensors, strict=False).unexpected_keys


@pytest.mark.parametrize("name", TWINS)
def test_nets_are_those_of_pytorch(name):
  net, variables, twin = pair(name)
  check_round_trip(net, variables, twin)
  check_embeddings(net, variables, twin, images())


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_those_of_pytorch(name, monkeypatch):
  monkeypatch.setitem(registry.SPECS, name, VARIANTS[name][0])
  # Nothing would be left of smaller ones.
  size = (75, 91) if name == "inception_resnet" else SIZE
  net, variables, twin = pair(name, size=size)
  check_round_trip(net, variables, twin)
  check_embeddings(net, variables, twin, images(size=size))


@pytest.mark.parametrize("name", ["mbf", "mbf_large"])
def test_names_of_the_scaled_nets(name):
  check_round_trip(*pair(name))
