"""What the theory of a softmax over s cos says, for the losses that are one."""

from facejax.losses import bounds
from facejax.training.objectives import definition

# That a loss should be able to reach.
_PROBABILITY = 0.9


class ScaledSoftmax(definition.OverClasses):
  """A softmax whose logits are cosines, changed by a margin, times a fixed s.

  Attributes:
    scale: s, the length that embeddings are given.
  """

  scale: float

  def advice(self, *, num_classes: int, dim: int) -> list[str]:
    """Against an s with which the loss stays above -ln 0.9.

    References:
      Wang et al., CosFace: Large Margin Cosine Loss for Deep Face Recognition,
        2018, Eq. 6.
    """
    del dim
    if num_classes < 2:
      return []
    # Embeddings that lie on their prototypes, c_y = 1, with these spread as
    # evenly as can be, c_j = -1 / (C - 1), have the probability P where
    # s = (C - 1) / C ln((C - 1) P / (1 - P)). No net gets further.
    least = bounds.scale_lower_bound(num_classes, _PROBABILITY)
    if self.scale >= least:
      return []
    return [
      f"loss.scale={self.scale:g} is below {least:.3g}, the least with which"
      f" {num_classes:,} classes can reach a probability of {_PROBABILITY:g}"
      " (CosFace, 2018, Eq. 6): the loss cannot become small"
    ]
