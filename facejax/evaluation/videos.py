"""YouTube Faces: verification of videos, by the frames that each has.

The frames are embedded video after video, and added up as they come: what lies
in memory is one batch of them, and one vector a video.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from facejax.data import encoded, fingerprints
from facejax.data.pairs import pairs as pair_sets
from facejax.data.pairs import videos as video_lists
from facejax.evaluation import (
  features,
  overlap,
  pair_results,
  projector,
  protocols,
  verification,
)
from facejax.metrics import templates, video
from facejax.runs import embedder, results
from facejax.runtime import progress

Rules = Literal["both", "mean_feature", "frame_pairs"]
_HOW = {
  "mean_feature": "mean feature of the frames of each video",
  "frame_pairs": "mean over all pairs of frames of two videos (FaceNet's)",
}


def verified(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  *,
  file: str,
  rule: Rules = "both",
  frames: int | None = None,
  threshold: float | None = None,
  fold: int | None = None,
) -> results.Result:
  """Verification of the pairs of videos in a list such as `splits.txt`.

  Args:
    model: the net.
    options: see there; `path` is the folder of the frames.
    file: the list.
    rule: which score, see `facejax.metrics.video`; of both the second one's
      figures follow those of the first, their keys ending in `_frame_pairs`.
    frames: how many of the first frames of each video count; None for all.
    threshold: a score chosen elsewhere, at which accuracy is to be told too.
    fold: the only fold to test, from 0; None for all.
  """
  opened = video_lists.open_videos(file, options.path, frames=frames)
  source = model.decoded(opened.frames)
  pairs = opened.first, opened.second, opened.same, opened.fold
  films = pair_sets.PairSet(options.name, Films(source), *pairs)
  verification.check(films)
  if fold is not None and fold not in opened.fold:
    raise ValueError(f"there is no fold {fold + 1}")
  means, pooled = _embedded(model, options, source)
  scores = templates.pair_scores(pooled, films.first, films.second)
  found = {
    "mean_feature": verification.scored(
      films, means.summed, threshold=threshold
    ),
    "frame_pairs": verification.of_scores(films, scores, threshold),
  }
  told, trained = [], overlap.trained_on(model.run, options.seen)
  for name in found if rule == "both" else [rule]:
    one = pair_results.result(
      found[name],
      films,
      # SphereFace's centred features have a mean feature and no frame pairs.
      used=means if name == "mean_feature" else None,
      qualities=_lengths(means) if name == "mean_feature" else None,
      fold=fold,
      hardest=options.hardest,
      samples=options.samples,
      things=f"videos ({_count(len(source), frames)})",
      step=model.step,
      data=_data(file, options.path, opened),
      **overlap.told(
        trained,
        films,
        found[name].scores,
        found[name].metrics["threshold"],
        fold=fold,
      ),
    )
    told.append(_named(one, name, second=bool(told)))
  _project(model, options, means, films)
  more = [quantity for one in told[1:] for quantity in one.quantities]
  return dataclasses.replace(told[0], quantities=[*told[0].quantities, *more])


class Films:
  """Videos as a `sources.Source`: what is shown of each is its middle frame."""

  def __init__(self, frames: encoded.Decoded):
    """Takes frames whose labels are their videos, video after video."""
    self._frames = frames
    self.class_names: Sequence[str] = frames.class_names
    self.num_classes = frames.num_classes
    self.labels = np.arange(frames.num_classes, dtype=np.int32)
    ends = np.searchsorted(frames.labels, self.labels, side="right")
    starts = np.searchsorted(frames.labels, self.labels, side="left")
    self._middle = (starts + ends) // 2

  def __len__(self) -> int:
    return self.num_classes

  def name(self, index: int) -> str:
    return self.class_names[index]

  def __getitem__(self, index: int) -> np.ndarray:
    return self._frames[int(self._middle[index])]


def _lengths(means: features.Features) -> dict[str, np.ndarray]:
  """The quality of videos: how long their mean features are."""
  return {"norm": np.linalg.norm(means.summed.astype(np.float64), axis=1)}


def _count(frames: int, first: int | None) -> str:
  of_each = "" if first is None else f", the first {first:,} of each"
  return f"{frames:,} frames{of_each}"


def _data(
  file: str, path: str, opened: video_lists.VideoPairs
) -> dict[str, str]:
  return {
    "pairs": file,
    "images": path,
    "fingerprint of the frames": fingerprints.fingerprint(opened.frames),
  }


def _project(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  means: features.Features,
  films: pair_sets.PairSet,
) -> None:
  chosen = np.arange(len(films.source))
  projector.write(
    model.run,
    options.name,
    means.units,
    films.source,
    chosen,
    step=model.step,
  )


def _named(
  result: results.Result, rule: str, *, second: bool
) -> results.Result:
  """The figures with their rule, which is in their names where two are told."""
  key, label = (f"_{rule}", ", frame pairs") if second else ("", "")
  return dataclasses.replace(
    result,
    quantities=[
      dataclasses.replace(
        quantity,
        key=quantity.key + key,
        label=quantity.label + label,
        convention=f"{_HOW[rule]}; {quantity.convention}",
      )
      for quantity in result.quantities
    ],
  )


def _embedded(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  frames: encoded.Decoded,
) -> tuple[features.Features, np.ndarray]:
  """Mean features of the videos, and means of their frames' unit vectors."""
  labels, count = frames.labels, frames.num_classes
  plain, mirrored, units = (video.FrameMeans(count) for _ in range(3))
  with progress.counting("embedded", len(frames)) as advance:
    for kept, batch in features.in_batches(
      model.features_batch,
      frames,
      range(len(frames)),
      batch_size=model.batch_size(options.batch_size),
      advance=advance,
    ):
      plain.add(batch.plain, labels[kept])
      mirrored.add(batch.mirrored, labels[kept])
      units.add(batch.units, labels[kept])
  means = features.Features(plain.values(), mirrored.values())
  return means, units.values()
