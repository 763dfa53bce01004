"""From a configuration to what a run reads."""

import dataclasses
import functools
import logging
import os
import zlib
from collections.abc import Callable, Sequence

from facejax.data import (
  corrections,
  encoded,
  formats,
  pipeline,
  places,
  sampling,
  sources,
  subsets,
)
from facejax.data.augment import augment, policies
from facejax.data.pairs import lfw, pack_folders
from facejax.data.pairs import pairs as pairs_lib
from facejax.data.synthetic import faces
from facejax.training import config as config_lib
from facejax.training import held_out, lengths

logger = logging.getLogger(__name__)

# Identities from here on are never trained on.
UNSEEN_IDENTITY = 1_000_000
# Apart from the seed of the training images.
_PAIR_SEED = 1


@dataclasses.dataclass(frozen=True)
class Data:
  """What a run reads.

  Attributes:
    images: the training images.
    pairs: sets of verification pairs, if any.
    threshold_pairs: pairs that a threshold for them is chosen on, if any.
    sampler: which images make a batch; None shuffles all.
    by_name: whether images were left out one by one, so that their number says
      too little of which there are.
  """

  images: sources.Source
  pairs: Sequence[pairs_lib.PairSet]
  threshold_pairs: pairs_lib.PairSet | None
  sampler: sampling.Sampler | None = None
  by_name: bool = False

  def fingerprint(self) -> dict[str, int]:
    """What must not change between the parts of a run."""
    found = {
      "num_images": len(self.images),
      "num_classes": self.images.num_classes,
      "labels_crc32": zlib.crc32(self.images.labels.tobytes()),
    }
    if self.by_name:
      crc = 0
      for index in range(len(self.images)):
        crc = zlib.crc32(self.images.name(index).encode(), crc)
      found["names_crc32"] = crc
    return found


@dataclasses.dataclass(frozen=True)
class Opened:
  """The images of a run, and what became known of it when they were opened.

  Attributes:
    config: of the run; `eval.hold_out` is now a number.
    images: the training images.
    held_out: those of people who are never trained on; None for nobody.
  """

  config: config_lib.Config
  images: sources.Source
  held_out: encoded.EncodedImages | None


def training_images(config: config_lib.Config) -> sources.Source:
  """The training source that `config.data` describes.

  Raises:
    ValueError, FileNotFoundError: if there is nothing to train on.
  """
  return opened(config).images


def opened(config: config_lib.Config) -> Opened:
  """Opens the images that `config.data` describes, decodes none.

  Raises:
    ValueError, FileNotFoundError: if there is nothing to train on.
  """
  data = config.data
  apart, share = None, 0.0
  lists = data.identities, data.exclude, data.merge, data.relabel
  _check_presence(data.path, *lists, *config.eval.pairs)
  if data.source == "synthetic":
    source = faces.SyntheticFaces(
      num_identities=data.num_identities,
      images_per_identity=data.images_per_identity,
      seed=config.seed,
      image_size=data.image_size,
    )
  else:
    files, apart, share = _files(config)
    source = encoded.Decoded(
      files,
      image_size=data.image_size,
      crop=data.crop,
      exif=data.exif,
    )
  sources.check_labels(source)
  return Opened(
    held_out.settled(config, share),
    sources.CachedSource(source) if data.cache else source,
    apart,
  )


def _files(config: config_lib.Config) -> held_out.Split:
  """The encoded images of all sets, without those that are not wanted."""
  data = config.data
  only = lfw.read_identities(data.identities) if data.identities else None
  without = left_out(config)
  renamed = corrections.read(data.merge, data.relabel)
  assert data.source != "synthetic"
  places = [(data.source, data.path), *map(formats.parse_place, data.join)]
  sets = [
    formats.open_images(
      path,
      form,
      split=data.split,
      only=only if k == 0 else None,
      without=without,
      renamed=renamed if k == 0 else None,
      min_images=data.min_images,
      max_bad_share=data.max_bad_share,
      recursive=data.recursive,
    )
    for k, (form, path) in enumerate(places)
  ]
  split = held_out.split(config, sets[0])
  sets[0] = split.training
  files = sets[0] if len(sets) == 1 else subsets.Joined(sets)
  if files.num_classes < 2:
    raise ValueError(
      f"{data.path!r} has {files.num_classes} identities with"
      f" {data.min_images} or more images; a classifier needs at least two"
    )
  return split._replace(training=files)


def left_out(config: config_lib.Config) -> Sequence[str]:
  """The names of people, and of images as PERSON/IMAGE, that are left out."""
  return lfw.read_identities(config.data.exclude) if config.data.exclude else ()


def verification_pairs(
  config: config_lib.Config,
) -> tuple[Sequence[pairs_lib.PairSet], pairs_lib.PairSet | None]:
  """The sets of pairs to verify on, and one that a threshold is chosen on.

  Those of people held out are not among them: `held_out.pairs`.

  Raises:
    ValueError, FileNotFoundError: if a set cannot be read whole; names it.
  """
  data, evaluation = config.data, config.eval
  if evaluation.pairs == (config_lib.NO_PAIRS,):
    return (), None
  if data.source == "synthetic" and not evaluation.pairs:
    return (_unseen(config),), None
  read = functools.partial(
    pairs_lib.open_pairs,
    root=evaluation.path or data.path,
    image_size=data.image_size,
    crop=data.crop,
    exif=data.exif,
  )
  if not evaluation.pairs:
    found = _beside(data.path, read)
    if evaluation.patience and not found and not evaluation.hold_out:
      raise ValueError(
        f"eval.patience={evaluation.patience} counts verifications, and no packs"
        f" of pairs lie beside the images in {data.path!r}: name some with"
        " --eval.pairs, or hold people out with --eval.hold-out"
      )
    return found, None
  found = [read(path) for path in pack_folders.expanded(evaluation.pairs)]
  if not evaluation.threshold_pairs:
    return found, None
  chosen_on = pack_folders.expanded([evaluation.threshold_pairs])
  if len(chosen_on) > 1:
    raise ValueError(
      f"eval.threshold_pairs={evaluation.threshold_pairs!r} holds"
      f" {len(chosen_on)} packs: name the one that the threshold is chosen on"
    )
  return found, read(chosen_on[0])


def _beside(
  images: str, read: Callable[[str], pairs_lib.PairSet]
) -> list[pairs_lib.PairSet]:
  """The packs that lie beside the training images."""
  paths = pack_folders.beside(images)
  if not paths:
    return []
  names = ", ".join(map(os.path.basename, paths))
  logger.info("verifies on the packs beside the images: %s", names)
  try:
    return [read(path) for path in paths]
  except ValueError as error:
    raise ValueError(
      f"{error}. It lies beside the images of data.path and would be verified"
      f" on: name the packs to take with --eval.pairs, or --eval.pairs"
      f" {config_lib.NO_PAIRS}"
    ) from None


def _unseen(config: config_lib.Config) -> pairs_lib.PairSet:
  """Pairs of generated people who are not trained on."""
  count = config.eval.num_pairs
  unseen = faces.SyntheticFaces(
    num_identities=max(20, count // 20),
    images_per_identity=10,
    first_identity=UNSEEN_IDENTITY,
    seed=config.seed,
    image_size=config.data.image_size,
  )
  return pairs_lib.random_pairs(
    sources.CachedSource(unseen),
    num_pairs=count,
    seed=config.seed + _PAIR_SEED,
    name="unseen identities",
  )


def sampler(
  config: config_lib.Config, images: sources.Source
) -> sampling.Sampler | None:
  """Which images make a batch, if not all are shuffled.

  Raises:
    ValueError: if the identities or their images are too few.
  """
  data = config.data
  if not data.identities_per_batch:
    return None
  return sampling.Sampler(
    images.labels,
    identities=data.identities_per_batch,
    images=data.images_of_identity,
    negatives=data.random_negatives,
    seed=config.seed,
  )


def augmentation(config: config_lib.Config) -> augment.Augment:
  """The random changes that every training image goes through."""
  return policies.combined(config.data.policy, config.augment)


def length(config: config_lib.Config, num_images: int) -> lengths.Length:
  """The steps of the run and of a pass over its images."""
  return lengths.Length(
    total_steps(config, num_images), steps_per_epoch(config, num_images)
  )


def total_steps(config: config_lib.Config, num_images: int) -> int:
  """The length of the run."""
  if config.steps is not None:
    return config.steps
  assert config.epochs is not None  # validation: exactly one is given
  per_epoch = steps_per_epoch(config, num_images)
  return max(1, round(config.epochs * per_epoch))


def steps_per_epoch(config: config_lib.Config, num_images: int) -> int:
  """The steps of a pass over the images."""
  return pipeline.steps_per_epoch(num_images, config.batch_size)


def _check_presence(*paths: str) -> None:
  home = places.data_folder()
  for path in filter(None, paths):
    if path.startswith(home) and not os.path.exists(path):
      raise FileNotFoundError(
        f"{path} does not exist: presets look for data sets in {home!r}; set"
        " FACEJAX_DATA to the folder that holds them, or pass the path itself"
      )
