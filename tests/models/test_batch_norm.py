"""Batch normalisation: statistics, gradients, any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facejax.models import batch_norm, functional
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import program_text


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(("shape", "mean"), [((16, 3, 5, 4), 0), ((8, 4), 300)])
def test_gradient_is_that_through_mean_and_variance(shape, mean, devices):
  rng = np.random.default_rng(0)
  x = rng.normal(mean, 2, size=shape).astype(np.float32)
  scale, bias = rng.normal(size=(2, 4)).astype(np.float32)
  weight = rng.normal(size=shape).astype(np.float32)

  def reference(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    wide = (1,) * (x.ndim - 1) + (-1,)
    z = (x - mean) / jnp.sqrt(var + 1e-3)
    return z * scale.reshape(wide) + bias.reshape(wide)

  def both(function, *arguments):
    y, pull = jax.vjp(function, *arguments)
    return y, *pull(weight.astype(y.dtype))

  with jax.enable_x64(True):
    doubled = (a.astype(np.float64) for a in (x, scale, bias))
    expected = both(reference, *doubled)
  mesh = mesh_lib.make_mesh(devices=devices)
  x = jax.device_put(x, mesh_lib.sharding(mesh, mesh_lib.BATCH))

  def ours(x, scale, bias):
    return batch_norm.normalize(1e-3, x, scale, bias)[0]

  found = jax.jit(lambda *a: both(ours, *a))(x, scale, bias)
  for actual, wanted in zip(found, expected, strict=True):
    # The sums of a sharded batch are those over all devices.
    np.testing.assert_allclose(
      actual, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max()
    )


def test_batch_norm_survives_a_large_mean():
  norm = batch_norm.BatchNorm(1, rngs=nnx.Rngs(0))
  x = 3000 + np.random.default_rng(0).normal(size=(4096, 1))
  out = norm(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(out.std(), 1, atol=0.01)


def test_batch_norm_remembers_what_torch_remembers():
  norm = batch_norm.BatchNorm(2, rngs=nnx.Rngs(0), dtype=jnp.bfloat16)
  x = np.random.default_rng(0).normal(300, 2, size=(5, 2)).astype(np.float32)
  norm(jnp.asarray(x))
  mean, var = 0.1 * x.mean(axis=0), 0.9 + 0.1 * x.var(axis=0, ddof=1)
  np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5)
  np.testing.assert_allclose(norm.var[...], var, rtol=1e-5)
  # Evaluated with statistics that bfloat16 would round by up to a half.
  norm.eval()
  y = norm(jnp.full((1, 2), 300.0))
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    y[0], (300 - mean) / np.sqrt(var + 1e-5), rtol=4e-3
  )


def test_one_value_a_channel_is_refused_in_training_alone():
  norm = batch_norm.BatchNorm(3, rngs=nnx.Rngs(0))
  with pytest.raises(batch_norm.TooFewError, match="one value a channel"):
    norm(jnp.ones((1, 3)))
  norm.use_running_average = True
  assert norm(jnp.ones((1, 3))).shape == (1, 3)


def batch(devices, shape=(16, 3, 5, 4)):
  """A batch split over devices, what it is scaled with, and the mesh."""
  rng = np.random.default_rng(0)
  x = rng.normal(30, 2, size=shape).astype(np.float32)
  scale, bias = rng.normal(size=(2, shape[-1])).astype(np.float32)
  mesh = mesh_lib.make_mesh(devices=devices)
  x = jax.device_put(x, mesh_lib.sharding(mesh, mesh_lib.BATCH))
  return x, scale, bias, mesh


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("groups", [1, 2, 4, 16])
def test_groups_are_normalised_each_by_itself(groups, devices):
  x, scale, bias, mesh = batch(devices)
  weight = np.random.default_rng(1).normal(size=x.shape)

  def loss(x, scale, bias):
    with batch_norm.split_over(mesh):
      y, mean, var = batch_norm.normalize(1e-3, x, scale, bias, groups=groups)
    return (y * weight).sum(), (y, mean, var)

  def alone(x, scale, bias):
    found = [
      batch_norm.normalize(1e-3, part, scale, bias)
      for part in jnp.split(x, groups)
    ]
    ys, means, variances = zip(*found, strict=True)
    y = jnp.concatenate(ys)
    mean, var = (jnp.stack(one).mean(0) for one in (means, variances))
    return (y * weight).sum(), (y, mean, var)

  found, expected = (
    jax.jit(jax.value_and_grad(one, (0, 1, 2), has_aux=True))(x, scale, bias)
    for one in (loss, alone)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=0, atol=1e-4 * np.abs(b).max()
    ),
    found,
    expected,
  )


def test_parts_of_a_large_mean_lose_nothing():
  """What each device finds is put together without its square."""
  x, _, _, mesh = batch(8, (4096, 1))
  x = x + 3000
  with batch_norm.split_over(mesh):
    _, mean, var = jax.jit(
      lambda x: batch_norm.normalize(0.0, x, jnp.ones(1), jnp.zeros(1))
    )(x)
  exact = np.asarray(x, np.float64)
  np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-6)
  np.testing.assert_allclose(var, exact.var(0), rtol=1e-4)


# Groups of whose examples each device holds some: one message forward, one
# back.
@pytest.mark.parametrize(
  ("groups", "messages"), [(1, 2), (4, 2), (8, 0), (16, 0)]
)
def test_what_crosses_devices(groups, messages):
  x, scale, bias, mesh = batch(8)

  def gradient(x, dy):
    with batch_norm.split_over(mesh):
      y, pull = jax.vjp(
        lambda x: batch_norm.normalize(1e-3, x, scale, bias, groups=groups)[0],
        x,
      )
    return y, *pull(dy)

  where = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  compiled = (
    jax.jit(gradient, out_shardings=(where, where)).lower(x, x).compile()
  )
  found = program_text.ProgramText(compiled.as_text()).collectives(mesh)
  assert sum(one.count for one in found) == messages, found


def test_a_batch_must_divide_into_groups():
  norm = batch_norm.BatchNorm(3, rngs=nnx.Rngs(0))
  batch_norm.in_groups(norm, 4)
  norm(jnp.ones((8, 3)))
  with pytest.raises(
    ValueError, match="6 images do not divide into groups of 4"
  ):
    norm(jnp.ones((6, 3)))
  batch_norm.in_groups(norm, 1)
  with pytest.raises(batch_norm.TooFewError):
    norm(jnp.ones((8, 3)))


def test_frozen_statistics_train_as_they_verify():
  """One image is as good as many; scale and bias have their gradients."""
  name = "iresnet10_slim"
  frozen = functional.build(
    name, embedding_dim=8, image_size=(32, 32), bn_frozen=True
  )
  plain = functional.build(name, embedding_dim=8, image_size=(32, 32))
  params, stats = frozen.init(jax.random.key(0))
  rng = np.random.default_rng(0)
  stats = jax.tree.map(
    lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), leaf.dtype), stats
  )
  images = rng.integers(256, size=(3, 32, 32, 3), dtype=np.uint8)

  def total(net, train, images):
    def run(params):
      out, after = net.apply(params, stats, images, train=train)
      return jnp.square(out).sum(), (out, after)

    return jax.jit(jax.grad(run, has_aux=True))(params)

  gradient, (out, after) = total(frozen, True, images)
  wanted, (verified, _) = total(plain, False, images)
  jax.tree.map(np.testing.assert_array_equal, after, stats)
  np.testing.assert_allclose(out, verified, rtol=1e-5, atol=1e-6)
  close = jax.tree.map(
    lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()),
    gradient,
    wanted,
  )
  assert jax.tree.all(close)
  assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
  _, (one, _) = total(frozen, True, images[:1])
  np.testing.assert_allclose(one, out[:1], rtol=1e-4, atol=1e-5)
  _, (_, moved) = total(plain, True, images)
  assert not np.allclose(
    jax.tree.leaves(moved)[0], jax.tree.leaves(stats)[0], rtol=1e-3
  )
