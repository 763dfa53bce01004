"""Center loss: every embedding near the centre of its class.

The centres are state, not parameters: no optimizer and no weight decay moves
them, `update_centers` does.
"""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from facejax.losses import choices
from facejax.runtime import ranges, typing

Rule: TypeAlias = Literal["paper", "facenet"]


def center_loss(
  embeddings: typing.ArrayLike,
  centers_of_labels: typing.ArrayLike,
  *,
  half: bool = True,
) -> typing.Array:
  r"""Squared distance to the centre of the class.

  .. math::
    L_i = \tfrac12 \lVert x_i - c_{y_i} \rVert^2

  The paper adds `lambda * L.sum()` to a classification loss; today most take
  the mean. Embeddings are not scaled to unit length. The gradient flows to the
  centres as well: pass them through `stop_gradient` if `update_centers` moves
  them.

  Args:
    embeddings: x [batch, dim].
    centers_of_labels: c_y [batch, dim], that is `centers[labels]`.
    half: the factor 1/2; some public code leaves it out.

  Returns:
    [batch], float32 at least.

  Raises:
    ValueError: if the shapes differ.

  References:
    Wen et al., A Discriminative Feature Learning Approach for Deep Face
      Recognition, 2016, Eq. 2.

  >>> center_loss(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2))).tolist()
  [12.5]
  """
  x, centers = jnp.asarray(embeddings), jnp.asarray(centers_of_labels)
  if x.shape != centers.shape:
    raise ValueError(
      f"embeddings {x.shape} and centers_of_labels {centers.shape} differ in "
      "shape: pass centers[labels], one centre for each embedding"
    )
  dtype = jnp.promote_types(jnp.result_type(x, centers), jnp.float32)
  offset = x.astype(dtype) - centers.astype(dtype)
  square = (offset * offset).sum(axis=-1)
  return square / 2 if half else square


def update_centers(
  centers: typing.ArrayLike,
  embeddings: typing.ArrayLike,
  labels: typing.ArrayLike,
  *,
  rate: float = 0.5,
  rule: Rule = "paper",
) -> typing.Array:
  r"""Moves the centres of the classes in the batch towards their examples.

  With n_j the number of examples of class j in the batch,

  .. math::
    c_j \leftarrow c_j - \alpha \frac{\sum_{y_i = j} (c_j - x_i)}{1 + n_j}
    \qquad\text{(paper)}, \qquad
    c_j \leftarrow c_j - \alpha \sum_{y_i = j} (c_j - x_i)
    \qquad\text{(facenet)}

  The second, of a widely used FaceNet implementation (where alpha = 1 - alfa =
  0.05), overshoots once a class comes more than 2 / alpha times in a batch.
  Classes that are absent stay. No gradient passes.

  Args:
    centers: [num_classes, dim].
    embeddings: [batch, dim].
    labels: int [batch]; outside [0, num_classes) they move nothing.
    rate: alpha, in [0, 1].
    rule: see above.

  Returns:
    The new centres, [num_classes, dim], in the dtype of the old.

  Raises:
    ValueError: if there is no such rule, labels are no whole numbers, or rate
      is outside [0, 1].

  References:
    Wen et al., A Discriminative Feature Learning Approach for Deep Face
      Recognition, 2016, Eq. 4.

  >>> x = jnp.array([[3.0], [6.0]])
  >>> update_centers(jnp.zeros((2, 1)), x, jnp.array([1, 1])).ravel().tolist()
  [0.0, 1.5]
  """
  ranges.check_numbers(ranges.SHARE, rate=rate)
  choices.check("rule", rule, Rule)
  centers, x = jnp.asarray(centers), jnp.asarray(embeddings)
  labels = choices.labels(labels)
  # Past the end, where nothing is written: -1 would be the last class.
  labels = jnp.where(labels < 0, len(centers), labels)
  centers, x = jax.lax.stop_gradient((centers, x))
  dtype = jnp.promote_types(centers.dtype, jnp.float32)
  step = rate * (centers[labels].astype(dtype) - x.astype(dtype))
  if rule == "paper":
    count = jax.ops.segment_sum(jnp.ones_like(labels), labels, len(centers))
    step /= 1 + count[labels][:, None]
  # Duplicates add up; only the rows of the batch are read and written.
  return centers.at[labels].add(-step.astype(centers.dtype), mode="drop")
