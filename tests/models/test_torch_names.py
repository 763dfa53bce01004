"""What is refused of a PyTorch checkpoint, and what its arrays become."""

import jax
import numpy as np
import pytest

from facejax.models import functional, torch_names


@pytest.fixture
def net():
  return functional.build(
    "iresnet10_slim", embedding_dim=8, image_size=(32, 48)
  )


@pytest.fixture
def arrays(net):
  """A state dict of zeros and ones, as torch would have it."""
  abstract = jax.eval_shape(net.init, jax.random.key(0))
  variables = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract)
  return torch_names.to_torch(net, variables)


def test_names_and_shapes_are_those_of_the_field(arrays):
  shapes = {name: array.shape for name, array in arrays.items()}
  assert len(shapes) == 96
  assert shapes["conv1.weight"] == (16, 3, 3, 3)
  assert shapes["prelu.weight"] == (16,)
  assert shapes["layer3.0.conv1.weight"] == (128, 64, 3, 3)
  assert shapes["layer4.0.downsample.1.running_var"] == (256,)
  assert shapes["fc.weight"] == (8, 2 * 3 * 256)
  assert (arrays["features.weight"] == np.ones(8)).all()


def test_a_flattened_map_changes_its_order(net, arrays):
  # torch counts channel, row, column; we count row, column, channel.
  channel, row, column = 5, 1, 2
  arrays["fc.weight"][3, (channel * 2 + row) * 3 + column] = 1
  params, _ = torch_names.from_torch(net, arrays)
  kernel = params["linear"]["kernel"]
  assert kernel.shape == (2 * 3 * 256, 8)
  assert kernel[(row * 3 + column) * 256 + channel, 3] == kernel.sum() == 1


def test_other_float_types_and_counters_are_taken(net, arrays):
  arrays["bn1.num_batches_tracked"] = np.array(7)
  arrays["fc.bias"] = np.full(8, 0.5, np.float16)
  params, stats = torch_names.from_torch(net, arrays)
  assert (params["linear"]["bias"] == 0.5).all()
  leaves = jax.tree.leaves((params, stats))
  assert {leaf.dtype for leaf in leaves} == {np.dtype("f4")}
  like = jax.eval_shape(net.init, jax.random.key(0))
  assert jax.tree.map(np.shape, (params, stats)) == jax.tree.map(np.shape, like)


def test_nothing_is_shared_with_what_was_given(net, arrays):
  params, stats = torch_names.from_torch(net, arrays)
  for array in arrays.values():
    array += 1
  assert not any(leaf.any() for leaf in jax.tree.leaves((params, stats)))


def test_every_tensor_is_accounted_for(net, arrays):
  del arrays["layer1.0.bn1.running_var"], arrays["fc.bias"]
  arrays["head.weight"] = np.zeros(3)
  message = (
    "not the weights of net 'iresnet10_slim'; tensors 2 missing: fc.bias,"
    " layer1.0.bn1.running_var; 1 unknown: head.weight"
  )
  with pytest.raises(ValueError, match=message):
    torch_names.from_torch(net, arrays)


def test_many_names_are_cut_short(net):
  with pytest.raises(ValueError, match=r"96 missing: (\S+, ){8}…"):
    torch_names.from_torch(net, {})


def test_what_is_to_be_ignored_is(net, arrays):
  arrays["head.weight"] = np.zeros(3)
  torch_names.from_torch(net, arrays, ignore=["head.weight"])


def test_shapes_must_fit(net, arrays):
  arrays["fc.weight"] = np.zeros((8, 49 * 256))
  message = r"'fc.weight' has the shape \(8, 12544\).*\(32, 48\).*\(8, 1536\)"
  with pytest.raises(ValueError, match=message):
    torch_names.from_torch(net, arrays)


def test_a_scale_that_is_fixed_must_be_1(net, arrays):
  arrays["features.weight"] = np.full(8, 1.5)
  with pytest.raises(ValueError, match="'features.weight' must be 1"):
    torch_names.from_torch(net, arrays)


def test_nets_without_a_common_layout_are_refused():
  net = functional.build("inception_slim", embedding_dim=8, image_size=(32, 32))
  message = "'inception_slim' has no layout"
  with pytest.raises(ValueError, match=message):
    torch_names.from_torch(net, {})
  with pytest.raises(ValueError, match=message):
    torch_names.to_torch(net, ({}, {}))
