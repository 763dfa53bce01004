"""What the papers prove about s and m, and where two classes meet.

Decision boundaries are given in the plane of the angles theta_1 and theta_2 to
the prototypes of two classes: `boundary(theta_1)` is the least theta_2 at which
training takes the example for class 1, which is where its two logits are equal
(the loss is log 2). Class 2's boundary is the same with the axes exchanged. It
is NaN where no theta_2 is large enough. Angles are in radians.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from facejax.runtime import ranges


def scale_lower_bound(num_classes: int, probability: float) -> float:
  """The least s that lets every class reach a probability without margin.

  .. math::
    s \\ge \\frac{C - 1}{C} \\ln \\frac{(C - 1) P}{1 - P}

  With a smaller s the loss stays above -ln P even for embeddings that lie on
  their prototypes, spread as evenly as C prototypes can be. Above it P is
  reached only where they form a regular simplex, which needs C - 1 dimensions.

  Args:
    num_classes: C >= 2.
    probability: P of the true class, in (0, 1).

  Raises:
    ValueError: if an argument is out of range.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Eq. 6.

  >>> round(scale_lower_bound(10_575, 0.9), 4)
  11.4623
  """
  _check_classes(num_classes)
  if not 0 < probability < 1:
    raise ValueError(f"probability={probability}: must be in (0, 1)")
  odds = probability / (1 - probability)
  share = (num_classes - 1) / num_classes
  return share * math.log((num_classes - 1) * odds)


def margin_upper_bound(num_classes: int, dim: int) -> float:
  """The largest m of CosFace that embeddings on their prototypes can meet.

  .. math::
    m \\le 1 - \\max_{i \\ne j} w_i \\cdot w_j \\le \\begin{cases}
      1 - \\cos(2 \\pi / C) & K = 2 \\\\
      C / (C - 1) & C \\le K + 1 \\end{cases}

  Both are attained: by a regular polygon and by a regular simplex. For more
  classes than K + 1 in K > 2 dimensions C / (C - 1) is returned, and it is
  loose: the true bound is much smaller and known for few C and K only.

  Args:
    num_classes: C >= 2.
    dim: K >= 2, size of the embeddings.

  Raises:
    ValueError: if an argument is out of range.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Eq. 7 and 8.

  >>> round(margin_upper_bound(8, dim=2), 4)
  0.2929
  >>> round(margin_upper_bound(8, dim=512), 4)
  1.1429
  """
  _check_classes(num_classes)
  if dim < 2:
    raise ValueError(f"dim={dim}: must be at least 2")
  if dim == 2:
    return 1 - math.cos(2 * math.pi / num_classes)
  return num_classes / (num_classes - 1)


def sphereface_min_margin(
  kind: Literal["binary", "multiclass"] = "multiclass",
) -> float:
  """The least m of A-Softmax that can separate identities it never saw.

  From there on the largest angle within a class may be smaller than the least
  angle between classes: 2 + sqrt(3) for two classes, 3 for many that are spread
  evenly.

  Args:
    kind: "binary" for two classes, "multiclass" for many.

  Raises:
    ValueError: if kind is neither.

  References:
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Properties 2 and 3.

  >>> round(sphereface_min_margin("binary"), 4)
  3.7321
  """
  if kind not in ("binary", "multiclass"):
    raise ValueError(f"kind={kind!r}: choose 'binary' or 'multiclass'")
  return 2 + math.sqrt(3) if kind == "binary" else 3.0


def angular_margin(margin: float, angle: float) -> float:
  """The angle between the two boundaries of A-Softmax: (m-1)/(m+1) theta_12.

  Measured on the arc that joins the two prototypes.

  Args:
    margin: m >= 1.
    angle: theta_12 between the prototypes, any unit, which the result has too.

  Raises:
    ValueError: if margin is below 1.

  References:
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Section 3.4.

  >>> angular_margin(4, 90.0)
  54.0
  """
  ranges.check_numbers(ranges.FACTOR, margin=margin)
  return (margin - 1) / (margin + 1) * angle


def softmax_boundary(
  angle: npt.ArrayLike, *, ratio: float = 1.0
) -> npt.NDArray[np.float64]:
  """Softmax without bias: |w_1| cos theta_1 = |w_2| cos theta_2.

  Unless the prototypes are equally long, the longer one takes examples that
  are nearer to the other: its margin in the cosine is negative.

  Args:
    angle: theta_1 in [0, pi], any shape.
    ratio: |w_1| / |w_2|.

  Returns:
    theta_2, of the same shape; 0 where every theta_2 is large enough.

  Raises:
    ValueError: if ratio is not above 0.

  References:
    Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
      2018, Section 3.2.

  >>> bool(np.isnan(softmax_boundary(np.pi, ratio=1.5)))
  True
  """
  ranges.check_numbers(ranges.POSITIVE, ratio=ratio)
  return _angle(ratio * np.cos(angle))


def nsl_boundary(angle: npt.ArrayLike) -> npt.NDArray[np.float64]:
  """NSL and modified softmax: cos theta_1 = cos theta_2, the bisector.

  >>> float(nsl_boundary(0.5))
  0.5
  """
  return np.asarray(angle, np.float64)


def a_softmax_boundary(
  angle: npt.ArrayLike, *, margin: float
) -> npt.NDArray[np.float64]:
  """A-Softmax: cos(m theta_1) = cos theta_2, so theta_2 = m theta_1.

  The gap to the bisector, (m - 1) theta_1, vanishes with theta_1: the margin is
  small for classes that are alike. NaN beyond theta_1 = pi / m.

  Raises:
    ValueError: if margin is below 1.

  References:
    Liu et al., SphereFace: Deep Hypersphere Embedding for Face Recognition,
      2017, Table 1.

  >>> float(a_softmax_boundary(0.5, margin=4))
  2.0
  """
  ranges.check_numbers(ranges.FACTOR, margin=margin)
  other = margin * np.asarray(angle, np.float64)
  return np.where(other <= np.pi, other, np.nan)


def cosface_boundary(
  angle: npt.ArrayLike, *, margin: float
) -> npt.NDArray[np.float64]:
  """CosFace: cos theta_2 = cos theta_1 - m.

  In the plane of the cosines the boundaries of the two classes are parallel
  lines, sqrt(2) m apart. NaN where cos theta_1 < m - 1.

  Raises:
    ValueError: if margin is below 0.

  >>> round(float(np.cos(cosface_boundary(0.0, margin=0.35))), 6)
  0.65
  """
  ranges.check_numbers(ranges.NOT_NEGATIVE, margin=margin)
  return _angle(np.cos(angle) - margin)


def arcface_boundary(
  angle: npt.ArrayLike, *, margin: float
) -> npt.NDArray[np.float64]:
  """ArcFace: theta_2 = theta_1 + m, the same angle everywhere.

  NaN beyond theta_1 = pi - m.

  Raises:
    ValueError: if margin is outside [0, pi).

  References:
    Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face
      Recognition, 2019, Fig. 5.

  >>> float(arcface_boundary(0.5, margin=0.5))
  1.0
  """
  ranges.check_numbers(ranges.ANGLE, margin=margin)
  other = np.asarray(angle, np.float64) + margin
  return np.where(other <= np.pi, other, np.nan)


def _angle(cosine):
  """arccos; 0 above 1, and NaN below -1, which no angle reaches."""
  lowest = np.where(cosine >= -1, cosine, np.nan)
  return np.arccos(np.minimum(lowest, 1))


def _check_classes(num_classes: int) -> None:
  if num_classes < 2:
    raise ValueError(f"num_classes={num_classes}: must be at least 2")
