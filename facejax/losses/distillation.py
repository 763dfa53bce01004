"""What a net learns from the embeddings of another: their direction, or how they
lie to each other."""

import jax.numpy as jnp

from facejax.runtime import typing, unit_vectors


def cosine(
  embeddings: typing.ArrayLike, teacher: typing.ArrayLike
) -> typing.Array:
  r"""How far each embedding points away from the teacher's.

  .. math::
    L_i = 1 - \cos(x_i, t_i)

  Lengths do not count. Half the squared distance of the unit vectors.

  Args:
    embeddings: x [batch, dim].
    teacher: t [batch, dim], of the same images.

  Returns:
    [batch], in [0, 2].

  Raises:
    ValueError: if the shapes differ; `relations` takes any two sizes.

  References:
    Duong et al., ShrinkTeaNet: Million-scale Lightweight Face Recognition via
      Shrinking Teacher-Student Networks, 2019 (angles alone are taught; its loss
      is the square of this).

  >>> cosine(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]])).tolist()
  [1.0]
  """
  x, t = jnp.asarray(embeddings), jnp.asarray(teacher)
  if x.shape != t.shape:
    raise ValueError(
      f"embeddings {x.shape} and the teacher's {t.shape} differ in shape: both"
      " must be of the same size, or take the relations alone"
    )
  x, t = unit_vectors.l2_normalize(x), unit_vectors.l2_normalize(t)
  return 1 - (x * t).sum(axis=1)


def relations(
  embeddings: typing.ArrayLike, teacher: typing.ArrayLike
) -> typing.Array:
  r"""How otherwise each embedding lies to those of the batch than the teacher's.

  .. math::
    L_i = \frac1n \sum_j \bigl( \cos(x_i, x_j) - \cos(t_i, t_j) \bigr)^2

  The teacher's embeddings may be of another size.

  Args:
    embeddings: x [batch, dim].
    teacher: t [batch, another dim], of the same images.

  Returns:
    [batch], in [0, 4].

  Raises:
    ValueError: if they are not of as many images.

  References:
    Tung, Mori, Similarity-Preserving Knowledge Distillation, 2019 (its table of
      similarities, here of unit vectors).
    Park et al., Relational Knowledge Distillation, 2019.

  >>> x = jnp.eye(2)
  >>> relations(x, jnp.ones((2, 3))).round(3).tolist()
  [0.5, 0.5]
  """
  x, t = jnp.asarray(embeddings), jnp.asarray(teacher)
  if len(x) != len(t):
    raise ValueError(
      f"embeddings {x.shape} and the teacher's {t.shape} are not of as many"
      " images"
    )
  x, t = unit_vectors.l2_normalize(x), unit_vectors.l2_normalize(t)
  apart = x @ x.T - (t @ t.T).astype(x.dtype)
  return (apart * apart).mean(axis=1)
