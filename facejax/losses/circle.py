"""Circle loss over classes: the further from its optimum, the more a
similarity counts.

For use as margin and negative of a softmax whose scale is gamma.
"""

import jax

from facejax.losses import angles
from facejax.runtime import ranges, typing


def circle(cosine: typing.ArrayLike, *, margin: float) -> typing.Array:
  """Of the true class: phi(c) = [1 + m - c]_+ (c - (1 - m)).

  The weight [.]_+ is a constant for the gradient.

  Args:
    cosine: cos theta_y, any shape.
    margin: m >= 0, 0.25 for faces.

  Returns:
    phi, of the same shape.

  Raises:
    ValueError: if margin is below 0.

  References:
    Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
      Optimization, 2020, Eq. 4 to 8.

  >>> float(circle(0.5, margin=0.25))
  -0.1875
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  cosine = angles.as_float(cosine)
  weight = jax.lax.stop_gradient(jax.nn.relu(1 + margin - cosine))
  return weight * (cosine - (1 - margin))


def circle_negative(
  cosine: typing.ArrayLike, target_cosine: typing.ArrayLike, *, margin: float
) -> typing.Array:
  """Of another class: t(c) = [c + m]_+ (c - m).

  The weight [.]_+ is a constant for the gradient.

  Args:
    cosine: cos theta_j, any shape.
    target_cosine: not used.
    margin: m, as of `circle`.

  Returns:
    t, of the shape of cosine.

  Raises:
    ValueError: if margin is below 0.

  References:
    Sun et al., Circle Loss: A Unified Perspective of Pair Similarity
      Optimization, 2020, Eq. 4 to 8.

  >>> float(circle_negative(0.5, 1.0, margin=0.25))
  0.1875
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  del target_cosine
  cosine = angles.as_float(cosine)
  weight = jax.lax.stop_gradient(jax.nn.relu(cosine + margin))
  return weight * (cosine - margin)
