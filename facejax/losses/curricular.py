"""CurricularFace: hard negatives count more as training goes on.

The target has `margins.arcface`; what the other classes have is here.
"""

import jax
import jax.numpy as jnp

from facejax.losses import angles, margins
from facejax.runtime import ranges, typing


def curricularface_average(
  average: typing.ArrayLike | float,
  target_cosine: typing.ArrayLike,
  *,
  decay: float = 0.99,
) -> typing.Array:
  """How far training has come: t <- decay t + (1 - decay) mean(cos theta_y).

  Args:
    average: t, 0 before the first step.
    target_cosine: cos theta_y of this batch, [batch].
    decay: what the past counts, in [0, 1].

  Returns:
    The new t, which carries no gradient; the loss of this batch has it.

  Raises:
    ValueError: if decay is outside [0, 1].

  References:
    Huang et al., CurricularFace: Adaptive Curriculum Learning Loss for Deep
      Face Recognition, 2020, Eq. 13.

  >>> round(float(curricularface_average(0.5, jnp.array([0.2, 0.4]))), 6)
  0.498
  """
  ranges.check_numbers(ranges.SHARE, decay=decay)
  now = jax.lax.stop_gradient(angles.as_float(target_cosine)).mean()
  return decay * angles.as_float(average) + (1 - decay) * now


def curricularface_negative(
  cosine: typing.ArrayLike,
  target_cosine: typing.ArrayLike,
  *,
  average: typing.ArrayLike | float,
  margin: float = 0.5,
) -> typing.Array:
  """Another class: c (t + c) where c > cos(theta_y + m), else c.

  The target has `margins.arcface`. So hard classes count little at first, when
  t is near 0, and more as t grows.

  Args:
    cosine: c = cos theta_j, of a shape that broadcasts with the next.
    target_cosine: cos theta_y; carries no gradient.
    average: t, a number or [batch] as target_cosine.
    margin: m in radians, 0 <= m < pi.

  Returns:
    The cosine, modulated.

  Raises:
    ValueError: if a number is outside its range.

  References:
    Huang et al., CurricularFace: Adaptive Curriculum Learning Loss for Deep
      Face Recognition, 2020, Eq. 8, 9.

  >>> round(float(curricularface_negative(0.5, 0.6, average=0.1)), 6)
  0.3
  """
  ranges.check_numbers(ranges.ANGLE, margin=margin)
  cosine = angles.as_float(cosine)
  edge = margins.arcface(target_cosine, margin=margin, guard="none")
  average = jax.lax.stop_gradient(average)
  hard = cosine > jax.lax.stop_gradient(edge)
  return jnp.where(hard, cosine * (average + cosine), cosine)
