"""Which of the people that are tested a net was trained on.

A face that the net has seen in training is easier than one that it has not:
published protocols test on other people. Where they do not, it must be said.
People are the same where their names are, or where a list says so that was made
by faces, see `overlap_search`.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax.data import corrections, formats, held_out
from facejax.data.pairs import lfw
from facejax.data.pairs import pairs as pair_sets
from facejax.data.synthetic import faces
from facejax.evaluation import error_rates, pair_people
from facejax.metrics import people_intervals
from facejax.runs import folder, results
from facejax.runtime import text_lines


class Trained(NamedTuple):
  """The people that a net was trained on, or why they are not known.

  Attributes:
    names: of the people, or of those tested that were found among them.
    about: how many they are, or why they are not known.
    seen: the list of those tested that were found; "" where names tell.
  """

  names: frozenset[str] | None
  about: str
  seen: str = ""


def trained_on(run: str | os.PathLike[str], seen: str = "") -> Trained:
  """`trained_people` of the folder of a run, or of a list of people.

  Args:
    run: the folder.
    seen: a list of the tested people that are in its training set, a name a
      line; "" to go by the names of both.

  Raises:
    ValueError: if its config.json is damaged.
    OSError: if the list cannot be read.
  """
  if not seen:
    return trained_people(folder.read_config(run))
  rows = text_lines.rows(seen, separator="\t")
  names = [row.fields[0] for row in rows if not row.fields[0].startswith("#")]
  return Trained(frozenset(names), f"{len(names):,} people", seen)


def trained_people(config: Mapping[str, Any] | None) -> Trained:
  """Opens what a run was trained on, and says who is in it.

  Args:
    config: the run's config.json, by dotted names; None where there is none.
  """
  if config is None:
    return Trained(None, "the run has no config.json")
  try:
    if config["data.source"] == "synthetic":
      names = faces.SyntheticFaces(
        num_identities=config["data.num_identities"],
        images_per_identity=config["data.images_per_identity"],
        seed=config["seed"],
        image_size=tuple(config["data.image_size"]),
      ).class_names
      return Trained(frozenset(names), "generated faces")
    names = _names_in_files(config)
  except (KeyError, TypeError) as error:
    return Trained(None, f"config.json of the run is incomplete ({error!r})")
  except (ValueError, OSError, ImportError) as error:
    return Trained(None, f"its training set cannot be opened ({error})")
  return Trained(frozenset(names), f"{len(names):,} people")


def _names_in_files(config: Mapping[str, Any]) -> set[str]:
  """The people of all sets that a run was trained on, and what they were called."""
  get = config.get
  only, without = get("data.identities"), get("data.exclude")
  renamed = corrections.read(get("data.merge") or "", get("data.relabel") or "")
  places = [(config["data.source"], config["data.path"])]
  places += [tuple(text.split(":", 1)) for text in get("data.join", ())]
  names: set[str] = set()
  for k, (form, path) in enumerate(places):
    files = formats.open_images(
      path,
      form,
      split=get("data.split", "train"),
      only=lfw.read_identities(only) if only and not k else None,
      without=lfw.read_identities(without) if without else (),
      renamed=None if k else renamed,
      min_images=get("data.min_images", 1),
    )
    found = set(files.class_names)
    if not k and get("eval.hold_out"):
      found.difference_update(
        held_out.people(
          files, share=config["eval.hold_out"], seed=config["seed"]
        )
      )
    names |= found if k else found | renamed.merged_into(found)
  return names


def of_people(trained: Trained, tested: Sequence[str]) -> tuple[str, bool]:
  """How many of the tested people were trained on, and whether to warn."""
  if trained.names is None:
    return (
      "It is not known which of these people the net was trained on:"
      f" {trained.about}",
      True,
    )
  count = len(set(tested))
  common = len(trained.names & set(tested))
  share = f"{100 * common / max(count, 1):.1f} %"
  whom = f"the {len(trained.names):,} that the net was trained on, by name"
  if trained.seen:
    whom = f"those found in the training set, by {trained.seen}"
  text = f"{common:,} of the {count:,} tested people ({share}) are among {whom}"
  if common:
    text += ": not comparable with results on people never seen"
  return text, bool(common)


def told(
  trained: Trained,
  opened: pair_sets.PairSet,
  scores: np.ndarray,
  threshold: float,
  *,
  fold: int | None = None,
) -> dict[str, Any]:
  """Who of the tested people was trained on, and accuracy without them.

  Args:
    trained: see `trained_people`.
    opened: the pairs.
    scores: their cosines.
    threshold: cosine.
    fold: the only one tested; None for all.

  Returns:
    Fields of a result: `warnings` or `notes`, and `more` figures.
  """
  mine = np.ones(len(opened), bool) if fold is None else opened.fold == fold
  sides = tuple(
    pair_people.people_of(opened.source, side[mine])
    for side in (opened.first, opened.second)
  )
  text, warn = of_people(trained, [*sides[0], *sides[1]])
  more = of_pairs(trained, sides, scores[mine], opened.same[mine], threshold)
  return {"warnings" if warn else "notes": [f"{text}."], "more": more}


def of_pairs(
  trained: Trained,
  people: tuple[Sequence[str], ...],
  scores: np.ndarray,
  same: np.ndarray,
  threshold: float,
) -> list[results.Quantity]:
  """Accuracy with and without people that were trained on, if there are both.

  Args:
    trained: see `trained_people`.
    people: names of the people of the first and of the second images.
    scores: cosines, [pairs].
    same: bool, [pairs].
    threshold: cosine.
  """
  if trained.names is None:
    return []
  first, second = (
    np.asarray([name in trained.names for name in side]) for side in people
  )
  new = ~(first | second)
  if new.all() or not new.any():
    return []
  right = (scores >= threshold) == same
  return [
    _accuracy(key, label, part, right, people, same, threshold)
    for key, label, part in (
      ("accuracy_of_unseen", "Accuracy, nobody trained on", new),
      ("accuracy_of_seen", "Accuracy, somebody trained on", ~new),
    )
  ]


def _accuracy(
  key: str,
  label: str,
  part: np.ndarray,
  right: np.ndarray,
  people: tuple[Sequence[str], ...],
  same: np.ndarray,
  threshold: float,
) -> results.Quantity:
  """Of a part of the pairs."""
  first, second = (np.asarray(side)[part] for side in people)
  who = None
  if np.array_equal(first == second, same[part]):
    who = people_intervals.compared(first, second)
  return error_rates.of_share(
    key,
    label,
    right[part],
    who,
    convention=f"pairs in which {label.partition(', ')[2].replace(' trained', ' was trained')},"
    f" {int(same[part].sum()):,} genuine, at cosine {threshold:.4f}",
  )
