"""Gradients that cross between devices in half the bytes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from facejax.models import functional, rounded_gradients

BFLOAT16 = 2.0**-8  # half a unit in the last place, relative


def layer(rows):
  """A linear layer, its input, and towards what it is pulled."""
  draw = np.random.default_rng(0)
  x, towards = (
    jnp.asarray(draw.normal(size=(*rows, size)), jnp.float32)
    for size in (12, 5)
  )
  return nnx.Linear(12, 5, rngs=nnx.Rngs(1)), x, towards


def gradients(net, x, towards):
  def loss(net, x):
    return ((net(x) - towards) ** 2).sum()

  value, found = nnx.value_and_grad(loss, argnums=(0, 1))(net, x)
  return value, found[0]["kernel"][...], found[0]["bias"][...], found[1]


def test_only_the_kernels_gradient_is_rounded():
  for rows in ((7,), (3, 4)):
    net, x, towards = layer(rows)
    exact = gradients(net, x, towards)
    rounded_gradients.use(net)
    value, kernel, bias, dx = gradients(net, x, towards)
    assert value == exact[0]
    np.testing.assert_array_equal(bias, exact[2])
    np.testing.assert_allclose(dx, exact[3], rtol=1e-6)
    np.testing.assert_array_equal(kernel, kernel.astype(jnp.bfloat16))
    np.testing.assert_allclose(kernel, exact[1], rtol=BFLOAT16, atol=1e-6)
    assert np.any(kernel != exact[1])


def test_devices_add_what_is_rounded():
  """The product is bfloat16 in the program that is split over devices."""
  for name, dtype in (("float32", jnp.float32), ("bfloat16", jnp.bfloat16)):
    net = functional.build(
      "sphereface4",
      embedding_dim=16,
      image_size=(16, 16),
      dtype=jnp.bfloat16,
      gradients=dtype,
    )
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((8, 16, 16, 3), jnp.uint8)

    def loss(params, stats, images, net=net):
      return net.apply(params, stats, images, train=True)[0].sum()

    text = jax.jit(jax.grad(loss)).lower(*shapes, images).as_text()
    inputs = shapes[0]["linear"]["kernel"].shape[0]
    # Of all products, that of the last layer alone has this shape.
    made = [x.split("->")[-1] for x in text.splitlines() if "dot_general" in x]
    [kind] = [x for x in made if f"<{inputs}x16x" in x or f"<16x{inputs}x" in x]
    assert (name == "bfloat16") == ("bf16" in kind)
