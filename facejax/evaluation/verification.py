"""Verification of a network on a pair set: images in, figures of merit out."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import rich.box
import rich.table
import rich.text

from facejax.data import images
from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import pair_rates
from facejax.metrics import checks, verification
from facejax.runs import embedding_loop
from facejax.runtime import unit_vectors

# Of these less is better; of accuracies, rates and area more.
LOWER_IS_BETTER = ("equal_error_rate",)

_CONVENTION = (
  "Embeddings of image and mirror image summed, then normalised; score = "
  "cosine; accuracy = mean ± population std over {folds} folds, the threshold "
  "of each chosen on the others (first best of squared L2 0, 0.01 … 3.99, "
  "accept below); TAR@FAR = largest TAR whose FAR is not above the target."
)
_FOLD_CONVENTION = (
  " VAL@FAR = mean ± standard error over the folds, the threshold of each the "
  "largest squared L2 with FAR not above the target on the others, accept when "
  "not above."
)
_BLOCK = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Verification:
  """The outcome of one pair set.

  Attributes:
    name: the pair set's name.
    scores: cosines, float64 [pairs].
    same: bool [pairs].
    fold: the fold of each pair, int [pairs].
    metrics: name to value; rates lie in [0, 1], thresholds are cosines.
    convention: one sentence that says how the numbers came about.
  """

  name: str
  scores: np.ndarray
  same: np.ndarray
  fold: np.ndarray
  metrics: dict[str, float]
  convention: str

  def items(self, prefix: str | None = None) -> Iterator[tuple[str, float]]:
    """Yields `("PREFIX/accuracy", value)` and so on; default prefix `name`."""
    for key, value in self.metrics.items():
      yield f"{self.name if prefix is None else prefix}/{key}", value


def evaluate_pairs(
  embed: embedding_loop.Embed,
  pairs: pair_sets.PairSet,
  *,
  batch_size: int,
  threshold: float | None = None,
) -> Verification:
  """Embeds every image of a pair set once and scores the pairs by cosine.

  Args:
    embed: maps uint8 images [batch_size, height, width, 3] to embeddings
      [batch_size, dim], image and mirror image summed, not normalised.
    pairs: the pair set; all images have one shape.
    batch_size: images in each call of `embed`.
    threshold: a cosine chosen on another set, at which accuracy is to be
      reported as well.

  Raises:
    ValueError: as `scored`; if `embed` returns another shape, or if images
      differ in shape.
  """
  with _naming(pairs):
    batches = embedding_loop.embedded(
      embed,
      lambda index: pairs.source[index],
      used_images(pairs).tolist(),
      size=batch_size,
      name=pairs.source.name,
    )
    found = np.concatenate([embeddings for _, embeddings in batches])
  return scored(pairs, found, threshold=threshold)


def check(pairs: pair_sets.PairSet) -> None:
  """Refuses what `scored` would refuse whatever the embeddings.

  Raises:
    ValueError: if there are no pairs, or all are of one kind or in one fold.
  """
  used_images(pairs)
  with _naming(pairs):
    _, same = checks.pairs(np.zeros(len(pairs)), pairs.same)
    checks.folds(pairs.fold, same)


def figures(pairs: pair_sets.PairSet, *, given: bool = False) -> list[str]:
  """Names of the metrics of a pair set that say how good a net is.

  Args:
    pairs: as `check` takes them; which rates they resolve is theirs to say.
    given: whether a threshold will be given.
  """
  scores = np.linspace(-1, 1, len(pairs))
  found = of_scores(pairs, scores, 0.0 if given else None).metrics
  about = ("_std", "_standard_error", "_far", "threshold")
  accuracy = "accuracy_at_given_threshold"
  return [k for k in found if k == accuracy or not k.endswith(about)]


def used_images(pairs: pair_sets.PairSet) -> np.ndarray:
  """Which images of its source a pair set uses, in order.

  Raises:
    ValueError: if there are no pairs.
  """
  if not len(pairs.same):
    raise ValueError(f"pair set {pairs.name}: there are no pairs")
  return np.unique(np.concatenate([pairs.first, pairs.second]))


def scored(
  pairs: pair_sets.PairSet,
  embeddings: np.ndarray,
  *,
  threshold: float | None = None,
  gallery: np.ndarray | None = None,
) -> Verification:
  """Scores pairs by the cosine of their embeddings.

  Args:
    pairs: the pair set.
    embeddings: of `used_images`, [used, dim], of any length.
    threshold: see `evaluate_pairs`.
    gallery: the same by another net, taken for the second image of each pair.

  Raises:
    ValueError: if there are no pairs, an embedding is zero or not finite, or
      all pairs are of one kind or in one fold; if two nets' embeddings differ
      in size.
  """
  used = used_images(pairs)
  with _naming(pairs):
    nets = [embeddings] if gallery is None else [embeddings, gallery]
    if nets[0].shape != nets[-1].shape:
      raise ValueError(
        f"the gallery's net makes embeddings of {nets[1].shape[1]}, the other of"
        f" {nets[0].shape[1]}: only nets of one size can be compared"
      )
    units = [
      unit_vectors.unit(
        np.asarray(vectors, np.float64),
        name=lambda row: (
          f"of {pairs.source.name(int(used[row]))}; if training"
          " diverged, lower the learning rate"
        ),
      )
      for vectors in nets
    ]
    a, b = (np.searchsorted(used, side) for side in (pairs.first, pairs.second))
    cosines = _cosines(units[0], a, units[-1], b)
    return of_scores(pairs, cosines, threshold)


@contextlib.contextmanager
def _naming(pairs: pair_sets.PairSet) -> Iterator[None]:
  """Mistakes name the pair set; an image that cannot be read names itself."""
  try:
    yield
  except images.BadImageError:
    raise
  except ValueError as error:
    raise ValueError(f"pair set {pairs.name}: {error}") from error


def table(results: Sequence[Verification]) -> rich.table.Table:
  """One row a pair set, for the end of a run; the convention is the caption.

  Where a threshold was given, "acc. at given" is the accuracy at it. A second
  row has VAL at the lowest FAR that the pairs resolve.
  """
  targets = [
    far
    for far in pair_rates.FAR_TARGETS
    if any(f"tar_at_far_{far}" in result.metrics for result in results)
  ]
  columns = {f"TAR@\n{far}": f"tar_at_far_{far}" for far in targets}
  columns["EER"] = "equal_error_rate"
  if any("given_threshold" in result.metrics for result in results):
    columns["acc. at\ngiven"] = "accuracy_at_given_threshold"
  conventions = dict.fromkeys(result.convention for result in results)
  out = rich.table.Table(
    title="Verification (rates in %)",
    caption="\n".join(conventions),
    caption_justify="left",
    box=rich.box.SIMPLE_HEAD,
    show_edge=False,
    padding=0,  # so that it fits 80 columns
  )
  out.add_column("pair set", overflow="fold")
  for header in [" pairs", "accuracy", "thresh-\nold", *columns, "AUC"]:
    out.add_column(header, justify="right", no_wrap=True)
  for result in results:
    metrics = result.metrics
    mean, std = 100 * metrics["accuracy"], 100 * metrics["accuracy_std"]
    out.add_row(
      rich.text.Text(result.name),
      f"{len(result.same):,}",
      f"{mean:.2f} ± {std:.2f}",
      f"{metrics['threshold']:.3f}",
      *(_percent(metrics.get(key)) for key in columns.values()),
      f"{metrics['area_under_curve']:.4f}",
    )
    _add_validation_row(out, metrics)
  return out


def _add_validation_row(
  out: rich.table.Table, metrics: dict[str, float]
) -> None:
  names = [
    far for far in pair_rates.FAR_TARGETS if f"val_at_far_{far}" in metrics
  ]
  if names:
    key = f"val_at_far_{names[-1]}"
    mean, error = 100 * metrics[key], 100 * metrics[f"{key}_standard_error"]
    out.add_row(f" VAL@{names[-1]}", "", f"{mean:.2f} ± {error:.2f}")


def _percent(rate: float | None) -> str:
  return "-" if rate is None else f"{100 * rate:.2f}"


def _cosines(
  first: np.ndarray, a: np.ndarray, second: np.ndarray, b: np.ndarray
) -> np.ndarray:
  """Of pairs: rows a of the first unit vectors, b of the second."""
  # In blocks: gathering millions of pairs at once would fill the memory.
  blocks = [slice(i, i + _BLOCK) for i in range(0, len(a), _BLOCK)]
  return np.concatenate(
    [np.einsum("nd,nd->n", first[a[k]], second[b[k]]) for k in blocks]
  )


def of_scores(
  pairs: pair_sets.PairSet, scores: np.ndarray, threshold: float | None = None
) -> Verification:
  """The outcome where scores are known.

  Args:
    pairs: the pair set.
    scores: cosines, or what is made of cosines, float64 [pairs].
    threshold: see `evaluate_pairs`.

  Raises:
    ValueError: if all pairs are of one kind or in one fold.
  """
  same, fold = pairs.same, pairs.fold
  folds = verification.ten_fold_accuracy(scores, same, fold)
  metrics = {
    "accuracy": folds.mean,
    "accuracy_std": folds.std,
    "accuracy_standard_error": folds.standard_error,
    "threshold": float(folds.thresholds.mean()),
  }
  for name, far in pair_rates.FAR_TARGETS.items():
    if far * np.sum(~same) >= 1:
      rate = verification.tar_at_far(scores, same, far)
      metrics[f"tar_at_far_{name}"] = rate
  metrics |= pair_rates.of_folds(scores, same, fold)
  metrics["equal_error_rate"] = verification.equal_error_rate(scores, same)
  metrics["area_under_curve"] = verification.area_under_curve(scores, same)
  if threshold is not None:
    accuracy = verification.accuracy_at(scores, same, threshold)
    metrics["accuracy_at_given_threshold"] = accuracy
    metrics["given_threshold"] = float(threshold)
  decided = metrics.get("given_threshold", metrics["threshold"])
  metrics |= pair_rates.of_strangers(scores, same, decided)
  convention = _CONVENTION.format(folds=folds.accuracies.size)
  if any(key.startswith("val_at_far") for key in metrics):
    convention += _FOLD_CONVENTION
  return Verification(pairs.name, scores, same, fold, metrics, convention)
