"""Batch normalisation: statistics, gradients, any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facejax.models import batch_norm
from facejax.runtime import mesh as mesh_lib


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
