"""Verification on any folder of people: pairs are drawn, folds share nobody."""

from facejax.data import fingerprints, image_sets
from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import pair_protocol, protocols
from facejax.runs import embedder, results

FOLDS = 10


def verified(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  *,
  count: int,
  seed: int = 0,
  threshold: float | None = None,
  fold: int | None = None,
) -> results.Result:
  """Ten folds of drawn pairs, as many genuine as impostor ones, nobody in two.

  Args:
    model: the net.
    options: see there; `path` has a folder a person.
    count: the most pairs; fewer where the people do not make as many.
    seed: of the draw.
    threshold: a cosine chosen elsewhere, at which accuracy is to be told too.
    fold: the only fold to test, from 0; None for all.

  Raises:
    ValueError: if an image is nobody's, or the people are too few.
  """
  files = image_sets.open_set(options.path)
  nameless = int((files.labels < 0).sum())
  if nameless:
    raise ValueError(
      f"{nameless} images in {options.path!r} are of nobody known; give a folder"
      " with a folder a person, or a list with names"
    )
  source = model.decoded(files)
  number, folds = pair_sets.fitting(
    files.labels, at_most=count, folds=FOLDS, apart=True
  )
  drawn = pair_sets.random_pairs(
    source, num_pairs=number, folds=folds, seed=seed, name=options.name
  )
  return pair_protocol.verified(
    model,
    options,
    drawn,
    threshold=threshold,
    fold=fold,
    data={
      "images": options.path,
      "pairs": f"{number:,} drawn with seed {seed}, nobody in two folds",
      "fingerprint of the images": fingerprints.fingerprint(files),
    },
  )
