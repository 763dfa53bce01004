"""Videos, as YouTube Faces compares them: frames in, one vector each out.

Two rules score a pair of videos with frames u and v of length 1:

    "mean_feature"  cosine of the mean features
    "frame_pairs"   mean over all frame pairs of cosine(u, v)

The second is FaceNet's (over the first hundred frames). It needs no pairs of
frames: the mean of inner products is the inner product of the means. Nor need
all frames be there at once: `FrameMeans` adds them up as they come.

References:
  Wolf et al., *Face Recognition in Unconstrained Videos with Matched Background
  Similarity*, 2011. Schroff et al., *FaceNet: A Unified Embedding for Face
  Recognition and Clustering*, 2015, section 5.7.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from facejax.metrics import checks, templates

Rule = Literal["mean_feature", "frame_pairs"]


def pool(
  features: npt.ArrayLike,
  video: npt.ArrayLike,
  *,
  rule: Rule = "mean_feature",
  frames: int | None = None,
) -> templates.Templates:
  """One vector a video, whose inner products are the scores of `rule`.

      "mean_feature"  Σ f / |Σ f|
      "frame_pairs"   (Σ f / |f|) / frames, not of length 1

  The mean squared L2 distance of the frame pairs is 2 - 2 score, so every
  function of `verification` takes either score.

  Args:
    features: of the frames, in the order of the film, [frames, dim].
    video: the video of each frame, [frames].
    rule: which score.
    frames: how many of the first frames of each video count; None for all.

  Raises:
    ValueError: if shapes differ, a value is not finite, `frames` is below 1, a
      frame is zero ("frame_pairs"), or the frames of a video cancel
      ("mean_feature").

  >>> pooled = pool([[1, 0], [0, 2], [3, 0]], [1, 1, 0], rule="frame_pairs")
  >>> pooled.ids.tolist(), pooled.features.tolist()
  ([0, 1], [[1.0, 0.0], [0.5, 0.5]])
  """
  x = checks.vectors(features, "features")
  video = checks.labels(video, len(x), "video")
  if rule not in get_args(Rule):
    raise ValueError(f"rule {rule!r}; use one of {get_args(Rule)}")
  if frames is not None and frames < 1:
    raise ValueError(f"frames is {frames}; use 1 or more, or None for all")
  if frames is not None:
    early = _place(video) < frames
    x, video = x[early], video[early]
  if rule == "mean_feature":
    return templates.pool(x, video, np.zeros(len(x), int))
  ids, place = np.unique(video, return_inverse=True)
  means = FrameMeans(len(ids))
  means.add(checks.units(x, "features"), place)
  return templates.Templates(ids, means.values().astype(x.dtype))


class FrameMeans:
  """The mean over the frames of each video, as frames come in any portions.

  Holds one vector a video, however many frames there are. Of features it is,
  but for its length, the vector of "mean_feature"; of features of length 1 that
  of "frame_pairs".

  >>> means = FrameMeans(2)
  >>> means.add([[1, 0], [0, 2]], [1, 1])
  >>> means.add([[3, 0]], [0])
  >>> means.values().tolist()
  [[3.0, 0.0], [0.5, 1.0]]
  """

  def __init__(self, videos: int):
    """Begins with no frames.

    Args:
      videos: how many there are, numbered from 0.
    """
    self._counts = np.zeros(videos, np.int64)
    self._sums = np.zeros((videos, 0))

  def add(self, features: npt.ArrayLike, video: npt.ArrayLike) -> None:
    """Adds frames.

    Args:
      features: of some frames, [frames, dim].
      video: the video of each, int [frames].

    Raises:
      ValueError: if shapes differ, a value is not finite, or there is no such
        video.
    """
    x = checks.vectors(features, "features")
    video = checks.labels(video, len(x), "video")
    if not 0 <= video.min() <= video.max() < len(self._counts):
      raise ValueError(
        f"videos {video.min()} … {video.max()}; there are {len(self._counts)},"
        " from 0"
      )
    if not self._sums.shape[1]:
      self._sums = np.zeros((len(self._counts), x.shape[1]))
    np.add.at(self._sums, video, x)
    self._counts += np.bincount(video, minlength=len(self._counts))

  def values(self) -> np.ndarray:
    """The means, float64 [videos, dim].

    Raises:
      ValueError: if a video has no frames.
    """
    missing = np.flatnonzero(self._counts == 0)
    if missing.size:
      raise ValueError(
        f"{missing.size} of {len(self._counts)} videos have no frames; the first"
        f" is number {missing[0]}"
      )
    return self._sums / self._counts[:, None]


def scores(
  pooled: templates.Templates, left: npt.ArrayLike, right: npt.ArrayLike
) -> np.ndarray:
  """Scores of pairs of videos, [pairs], in [-1, 1].

  Args:
    pooled: as `pool` gives it.
    left: the id of a video of each pair, [pairs].
    right: the id of the other, [pairs].

  Raises:
    ValueError: if a video has no frames.

  >>> pooled = pool([[1, 0], [0, 2], [3, 0]], [1, 1, 0], rule="frame_pairs")
  >>> scores(pooled, [0, 1], [1, 1]).tolist()
  [0.5, 0.5]
  """
  return templates.pair_scores(
    pooled.features, pooled.rows(left), pooled.rows(right)
  )


def _place(video: np.ndarray) -> np.ndarray:
  """Which frame of its own video each one is, from 0, [frames]."""
  order = np.argsort(video, kind="stable")
  _, first, count = np.unique(
    video[order], return_index=True, return_counts=True
  )
  place = np.empty(len(video), int)
  place[order] = np.arange(len(video)) - np.repeat(first, count)
  return place
