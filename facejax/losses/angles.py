"""Angles: safe to differentiate, and the losses that are angles themselves."""

import jax.numpy as jnp

from facejax.runtime import typing, unit_vectors


def as_float(x: typing.ArrayLike | float) -> typing.Array:
  """An array of float32 at least: angles need more bits than bfloat16 has.

  >>> as_float(jnp.bfloat16(0.5)).dtype.name
  'float32'
  """
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def angle(cosine: typing.ArrayLike) -> typing.Array:
  """theta = arccos c, with a finite gradient everywhere.

  The derivative -1 / sin theta is replaced by 0 at c = +-1, and outside.

  Args:
    cosine: any shape; values outside [-1, 1] are clipped.

  Returns:
    Radians in [0, pi], of the same shape.

  >>> [round(float(t), 6) for t in angle(jnp.array([1.0, 0.0, -1.0]))]
  [0.0, 1.570796, 3.141593]
  """
  cosine = as_float(cosine)
  # Both branches of `where` must be finite, or their gradient is NaN.
  is_inside = jnp.abs(cosine) < 1
  inside = jnp.where(is_inside, cosine, 0)
  sine = jnp.sqrt((1 - inside) * (1 + inside))
  at_end = jnp.where(cosine < 0, jnp.pi, 0).astype(cosine.dtype)
  return jnp.where(is_inside, jnp.arctan2(sine, inside), at_end)


def intra_class(target_cosine: typing.ArrayLike) -> typing.Array:
  """The angle to the own prototype: theta_y / pi.

  Added to a normalised softmax; the mean over the batch is Eq. 5.

  Args:
    target_cosine: cos theta_y, [batch].

  Returns:
    [batch], in [0, 1].

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Eq. 5.

  >>> round(float(intra_class(0.5)), 6)
  0.333333
  """
  return angle(target_cosine) / jnp.pi


def inter_class(prototypes: typing.Array, labels: typing.Array) -> typing.Array:
  r"""Minus the mean angle from the own prototype to the others.

  .. math::
    -\frac{1}{\pi (n - 1)} \sum_{j \ne y} \arccos(w_y \cdot w_j)

  The mean over the batch is Eq. 6. It writes out [batch, num_classes] angles.

  Args:
    prototypes: [num_classes, dim], num_classes >= 2; normalised here.
    labels: int [batch].

  Returns:
    [batch], in [-1, 0].

  Raises:
    ValueError: if there is only one class.

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Eq. 6.

  >>> inter_class(jnp.eye(3), jnp.array([0])).tolist()
  [-0.5]
  """
  count = prototypes.shape[0]
  if count < 2:
    raise ValueError(f"prototypes of {count} class: inter_class needs 2")
  units = unit_vectors.l2_normalize(as_float(prototypes))
  angles = angle(jnp.matmul(units[labels], units.T, precision="highest"))
  is_own = labels[:, None] == jnp.arange(count)[None, :]
  return jnp.where(is_own, 0, angles).sum(axis=1) / (-jnp.pi * (count - 1))
