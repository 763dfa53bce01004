"""Small members of the families of nets, and what tests ask of them."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from facejax.models import functional, iresnet, mobilefacenet, sphereface, vit

# Small members of the families, under these names while a test runs.
TINY = {
  "tiny_iresnet": iresnet.IResNetSpec((1, 1, 1, 1), (16, 16, 16, 32)),
  "tiny_sphereface": sphereface.SphereFaceSpec((1, 0, 1, 0), (8, 8, 16, 16)),
  "tiny_mobilefacenet": mobilefacenet.MobileFaceNetSpec(blocks=(1, 0, 0, 1)),
  "tiny_vit": vit.ViTSpec(32, 2, heads=4),
}


def build(name, *, dim=16, size=(32, 48), **options):
  return functional.build(name, embedding_dim=dim, image_size=size, **options)


def abstract(net):
  return jax.eval_shape(net.init, jax.random.key(0))


def images(batch=8, seed=0, size=(32, 48)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)


def equations(jaxpr):
  """Every equation of a graph, those of the graphs within it too."""
  for equation in jaxpr.eqns:
    yield equation
    inner = list(jax.extend.core.jaxprs_in_params(equation.params))
    # Of a choice by platform the last is for those that are not named.
    for jaxpr in inner[-1:] if "branches" in equation.params else inner:
      yield from equations(jaxpr)


def multiply_adds(equation):
  """Those of an equation that convolves or multiplies; none of any other."""
  shapes = [x.aval.shape for x in (*equation.invars, *equation.outvars)]
  if equation.primitive.name == "conv_general_dilated":
    _, kernel, out = shapes
    return np.prod(out[:-1]) * np.prod(kernel)
  if equation.primitive.name != "dot_general":
    return 0
  left, right, _ = shapes
  (_, contracted), (_, batched) = equation.params["dimension_numbers"]
  shared = {*contracted, *batched}
  free = [n for i, n in enumerate(right) if i not in shared]
  return np.prod(left) * np.prod(free)


def forward(net, *, train=False, **options):
  """The graph of the net for one image, as accelerators have it.

  For two where it trains: BatchNorm refuses a batch of one.
  """
  params, stats = abstract(net)
  batch = jax.ShapeDtypeStruct((1 + train, *net.image_size, 3), jnp.uint8)
  return jax.make_jaxpr(lambda *x: net.apply(*x, train=train, **options)[0])(
    params, stats, batch
  ).jaxpr
