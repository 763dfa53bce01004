"""Who of a run's own people is held out, and verified on while it trains."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facejax.data import encoded, subsets
from facejax.data import held_out as people_lib
from facejax.data.pairs import pack_folders
from facejax.data.pairs import pairs as pairs_lib
from facejax.runs import classes
from facejax.runs import folder as run_folder
from facejax.training import config as config_lib

logger = logging.getLogger(__name__)

# Where nothing else is asked for: so many of so many or more.
_SHARE, _FEWEST = 0.1, 20
# Of fewer pairs the figures are coarse.
_FEW_PAIRS = 100
# Apart from the seed of the training images.
_PAIR_SEED = 1


class Split(NamedTuple):
  """A set of images in two parts that have no person in common.

  Attributes:
    training: what is trained on.
    held_out: the others; None for nobody.
    share: of the people with two images or more who are held out.
  """

  training: encoded.EncodedImages
  held_out: encoded.EncodedImages | None
  share: float


def begun(config: config_lib.Config) -> config_lib.Config:
  """The same with the share that the run's folder was begun with.

  Runs that were begun before there was a choice held nobody out.

  Raises:
    ValueError: if the folder's config.json is damaged.
  """
  stored = run_folder.read_config(config.workdir)
  if stored is None or config.eval.hold_out is not None:
    return config
  return settled(config, stored.get("eval.hold_out") or 0.0)


def settled(config: config_lib.Config, share: float) -> config_lib.Config:
  """The same with a share that is known."""
  evaluation = dataclasses.replace(config.eval, hold_out=share)
  return dataclasses.replace(config, eval=evaluation)


def split(config: config_lib.Config, files: encoded.EncodedImages) -> Split:
  """Parts the people held out from a set; of several sets, the first.

  Raises:
    ValueError: if the share that was asked for leaves too few on either side.
  """
  share = _share(config, files)
  if not share:
    return Split(files, None, 0.0)
  names = people_lib.people(files, share=share, seed=config.seed)
  able = len(people_lib.able(files))
  if len(names) < 2:
    raise ValueError(
      f"eval.hold_out={share:g} of {able:,} people with two images or more is"
      f" {len(names)}, and pairs need two at the least: {_advice(able)}"
    )
  if len(names) == files.num_classes:
    raise ValueError(
      f"eval.hold_out={share:g} holds all {able:,} people out and leaves nobody"
      " to train on: give less"
    )
  _warn_of_seen(config.init_from, names)
  return Split(
    subsets.Subset(files, without=names),
    subsets.Subset(files, only=names),
    share,
  )


def _warn_of_seen(run: str, names: Sequence[str]) -> None:
  """Says who was trained on before, by the run that this one begins with."""
  seen = set(names).intersection(classes.read(run) or ()) if run else ()
  if seen:
    logger.warning(
      "%d of the %d people held out are classes of %s, by name: what they say of"
      " this run is too good",
      *(len(seen), len(names), run),
    )


def pairs(
  config: config_lib.Config, files: encoded.EncodedImages | None
) -> list[pairs_lib.PairSet]:
  """The set of pairs of the people held out; none if nothing is verified.

  Args:
    config: whose sizes and crops the images are brought to.
    files: the images of these people; None for nobody.

  Raises:
    ValueError: if they make too few pairs; names the option.
    images.BadImageError: if an image cannot be read and none is skipped.
  """
  if files is None or config.eval.pairs == (config_lib.NO_PAIRS,):
    return []
  data = config.data

  def decoded(some: encoded.EncodedImages) -> encoded.Decoded:
    return encoded.Decoded(
      some, image_size=data.image_size, crop=data.crop, exif=data.exif
    )

  try:
    found = people_lib.pairs(
      files,
      decoded,
      at_most=config.eval.num_pairs,
      seed=config.seed + _PAIR_SEED,
      skip=data.on_error == "skip",
    )
  except ValueError as error:
    raise ValueError(
      f"eval.hold_out={config.eval.hold_out:g}: {error}; hold more people out,"
      " or nobody with --eval.hold-out 0"
    ) from None
  if len(found) < min(_FEW_PAIRS, config.eval.num_pairs):
    logger.warning(
      "%d people held out make %d pairs, so that accuracy and threshold are"
      " coarse: a larger --eval.hold-out makes more",
      *(files.num_classes, len(found)),
    )
  return [found]


def described(
  config: config_lib.Config, sets: Sequence[pairs_lib.PairSet]
) -> dict[str, str]:
  """A row of the table of a run: who is held out, if anybody is."""
  found = [one for one in sets if one.name == people_lib.NAME]
  if not config.eval.hold_out or not found:
    return {}
  (one,) = found
  people, folds = one.source.num_classes, len(np.unique(one.fold))
  return {
    "held out": f"{len(one.source):,} images of {people:,} identities, never"
    f" trained on: {len(one):,} pairs in {folds} folds"
  }


def _share(config: config_lib.Config, files: encoded.EncodedImages) -> float:
  """What was asked for; else what suits the images."""
  if config.eval.hold_out is not None:
    return config.eval.hold_out
  if config.eval.pairs or pack_folders.beside(config.data.path):
    return 0.0
  able, batch = len(people_lib.able(files)), config.data.identities_per_batch
  if able < _FEWEST:
    why = f"{able:,} of {files.num_classes:,} people have two images or more"
    why += f", and only from {_FEWEST} on are some held out without being asked"
  elif files.num_classes - round(_SHARE * able) < batch:
    why = f"data.identities_per_batch={batch} takes nearly all the people"
  else:
    return _SHARE
  logger.info(
    "nobody is held out to be verified on, and the run ends without a threshold:"
    " %s; %s, or name pairs with --eval.pairs",
    *(why, _advice(able)),
  )
  return 0.0


def _advice(able: int) -> str:
  """What to do where so many people have two images or more."""
  if able < 4:
    return "add images of the same people"
  return f"give --eval.hold-out {max(0.1, -(-200 // able) / 100):g} or more"
