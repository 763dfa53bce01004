"""TinyFace: small probes among the images of their people and distractors.

`Testing_Set` has three folders: `Probe` and `Gallery_Match`, whose images are
called `PERSON_NUMBER.jpg`, and `Gallery_Distractor`, where everybody is a
stranger.

References:
  Cheng, Zhu, Gong. Low-Resolution Face Recognition. 2018.
"""

import os
from collections.abc import Sequence

import numpy as np

from facejax.data import encoded, image_sets
from facejax.evaluation import features, protocols
from facejax.metrics import gallery, identification
from facejax.runs import embedder, results
from facejax.runtime import progress

PROBE, MATCH, DISTRACTOR = "Probe", "Gallery_Match", "Gallery_Distractor"
_RANKS = (1, 5, 10, 20, 50)


def searched(
  model: embedder.Embedder, options: protocols.ProtocolOptions
) -> results.Result:
  """Rank-k of every probe in a gallery of mates and distractors.

  Args:
    model: the net.
    options: see there; `path` is `Testing_Set`.

  Raises:
    FileNotFoundError: if one of the folders is missing.
    ValueError: if a name does not begin with the number of a person.
  """
  people = [_open(options.path, name) for name in (PROBE, MATCH, DISTRACTOR)]
  ids = [_ids(files) for files in people[:2]]
  strangers = len(people[2])
  if missing := set(ids[0]) - set(ids[1]):
    raise ValueError(
      f"{len(missing)} people in {PROBE} have no image in {MATCH}, such as"
      f" {min(missing)}"
    )
  x = [_units(model, options, files) for files in people]
  found = gallery.search(
    x[0],
    np.asarray(ids[0]),
    np.concatenate(x[1:]),
    # Every distractor is a person of its own.
    np.r_[ids[1], -1 - np.arange(strangers)],
  )
  ranks = [k for k in _RANKS if k <= len(set(ids[1])) + strangers]
  return results.Result(
    name=options.name,
    protocol="identification",
    about=f"{len(ids[0]):,} probes of {len(set(ids[0])):,} people,"
    f" {len(ids[1]):,} images of mates, {strangers:,} distractors",
    quantities=_rates(found, ranks, len(ids[1]) + strangers),
    curves={
      "cmc": {
        "rank": np.arange(1, ranks[-1] + 1),
        "rate": identification.cumulative_match(found, ranks[-1]),
      }
    },
    warnings=[
      "People of TinyFace are numbers: it is not known whom of them the net was"
      " trained on."
    ],
    step=model.step,
    data={"images": options.path},
  )


def _rates(
  found: gallery.Search, ranks: Sequence[int], entries: int
) -> list[results.Quantity]:
  note = (
    f"gallery of {entries:,} images, best cosine of each person, every"
    " distractor a person of its own; ties count against the mate; image and"
    " mirror image summed; interval: Wilson's, which takes probes as independent;"
  )
  return [
    results.of_rate(
      f"rank_{k}", f"Rank-{k}", identification.rank_k(found, k), note
    )
    for k in ranks
  ]


def _open(root: str, name: str) -> encoded.EncodedImages:
  place = os.path.join(root, name)
  if not os.path.isdir(place):
    raise FileNotFoundError(
      f"there is no folder {place!r}; give TinyFace's Testing_Set, which has"
      f" {PROBE}, {MATCH} and {DISTRACTOR}"
    )
  return image_sets.open_set(place)


def _ids(files: encoded.EncodedImages) -> list[int]:
  """The number of the person on each image, as their names have it."""
  out = []
  for k in range(len(files)):
    number = os.path.basename(files.name(k)).partition("_")[0]
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
      raise ValueError(
        f"{files.name(k)!r} is not called PERSON_NUMBER.jpg, as images of"
        f" {PROBE} and {MATCH} are"
      )
    out.append(int(number))
  return out


def _units(
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
  files: encoded.EncodedImages,
) -> np.ndarray:
  source = model.decoded(files)
  with progress.counting("embedded", len(files)) as advance:
    batches = features.in_batches(
      model.features_batch,
      source,
      range(len(files)),
      batch_size=model.batch_size(options.batch_size),
      advance=advance,
    )
    return np.concatenate([np.float32(batch.units) for _, batch in batches])
