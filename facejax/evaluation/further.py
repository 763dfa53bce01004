"""Further protocols of `facejax.evaluate`: their flags, checks and names.

And each pack of a folder, which are evaluated in turn.
"""

import argparse
import os
import pathlib
from collections.abc import Callable
from typing import Any, get_args

from facejax.data.pairs import pack_folders
from facejax.evaluation import (
  certainty,
  drawn,
  megaface,
  overlap,
  overlap_search,
  protocols,
  tinyface,
  videos,
)
from facejax.runs import embedder, results
from facejax.runtime import command_line, text_lines

# What each needs.
_NEEDED = {
  "ytf": ("pairs", "path"),
  "megaface": ("path", "distractors"),
  "tinyface": ("path",),
  "drawn": ("path",),
  "overlap": ("path", "training"),
  "certainty": ("path",),
}
NAMES = tuple(_NEEDED)
_OWN = (
  "frames", "rule", "distractors", "leave_out", "drawn_pairs", "training",
  "strangers",
)  # fmt: skip
# What each takes beside that, of flags that not all protocols have.
_TAKEN = {
  "ytf": ("frames", "rule", "threshold", "fold"),
  "megaface": ("leave_out",),
  "tinyface": (),
  "drawn": ("threshold", "fold", "drawn_pairs"),
  "overlap": ("threshold", "strangers"),
  "certainty": (),
}
_FLAGS = (
  *_OWN, "pairs", "fold", "threshold", "threshold_pairs", "gallery_net",
)  # fmt: skip
# Protocols that do not say who of the tested people was trained on.
_NAMELESS = ("tinyface", "overlap", "certainty", "ijbb", "ijbc")
_PAIRS = 6000


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that these protocols alone have."""
  add = parser.add_argument
  count: Any = command_line.number(int, 1, 2**20)
  add("--frames", type=count, help="ytf: the first so many of a video (all)")
  add(
    "--rule",
    choices=get_args(videos.Rules),
    help="ytf: score by the mean feature, by all pairs of frames, or both (both)",
  )
  add(
    "--distractors",
    default="",
    metavar="FACES",
    help="megaface: folder, list or file of embeddings of strangers",
  )
  add(
    "--leave-out",
    action="append",
    metavar="LIST",
    help="megaface: images that do not take part; may be given again",
  )
  least: Any = command_line.number(int, 2 * drawn.FOLDS, 2**20)
  add(
    "--drawn-pairs",
    type=least,
    metavar="N",
    help=f"drawn: how many at most ({_PAIRS})",
  )
  add(
    "--training",
    default="",
    metavar="FACES",
    help="overlap: the training set, a folder a person, or a list with names",
  )
  few: Any = command_line.number(float, 1e-6, 2**20)
  add(
    "--strangers",
    type=few,
    metavar="N",
    help="overlap: how many of all tested people may be found wrongly (0.5)",
  )
  add(
    "--seen",
    default="",
    metavar="LIST",
    help="tested people that were trained on, as overlap lists them (by name)",
  )


def check(args: argparse.Namespace) -> None:
  """Refuses what does not belong, and says what is missing.

  Raises:
    ValueError: naming the flag.
  """
  needed = _NEEDED.get(args.protocol, ())
  if args.protocol in NAMES:
    taken = (*needed, *_TAKEN[args.protocol])
    refused = [flag for flag in _FLAGS if flag not in taken]
  else:
    refused = _OWN
  if args.seen:
    if args.protocol in _NAMELESS:
      raise ValueError(
        f"--protocol {args.protocol} has no --seen: nobody is named there"
      )
    overlap.trained_on(args.workdir, args.seen)
  for flag in refused:
    if getattr(args, flag) not in (None, ""):
      raise ValueError(f"--protocol {args.protocol} has no {_spelt(flag)}")
  for flag in needed:
    if not getattr(args, flag):
      raise ValueError(f"--protocol {args.protocol} needs {_spelt(flag)}")


def each(
  args: argparse.Namespace, name: Callable[[argparse.Namespace], str]
) -> list[argparse.Namespace]:
  """The arguments for each pack, where --pairs is a folder of packs.

  Args:
    args: those of the command, with a name.
    name: what a result is called when nobody says.
  """
  if args.protocol != "pairs" or not os.path.isdir(args.pairs):
    return [args]
  paths = pack_folders.expanded([args.pairs])
  if paths == [args.pairs]:
    return [args]
  given = "" if args.name == name(args) else f"{args.name}_"
  found = [argparse.Namespace(**vars(args) | {"pairs": path}) for path in paths]
  for one in found:
    one.name = given + name(one)
  return found


def name(args: argparse.Namespace) -> str:
  """What the result is called when nobody says."""
  if args.protocol == "ytf":
    first = f"_first{args.frames}" if args.frames else ""
    rule = "" if args.rule in (None, "both") else f"_{args.rule}"
    return f"ytf{first}{rule}"
  if args.protocol == "tinyface":
    return "tinyface"
  place = text_lines.printable(pathlib.Path(args.path).resolve().stem)
  refined = "_refined" if args.leave_out else ""
  return f"{args.protocol}_{place}{refined}"


def evaluate(
  args: argparse.Namespace,
  model: embedder.Embedder,
  options: protocols.ProtocolOptions,
) -> results.Result:
  """The result of one of `NAMES`."""
  if args.protocol == "megaface":
    return megaface.searched(
      model,
      options,
      distractors=args.distractors,
      leave_out=args.leave_out or (),
      seed=args.seed,
    )
  if args.protocol == "tinyface":
    return tinyface.searched(model, options)
  if args.protocol == "overlap":
    return overlap_search.searched(
      model,
      options,
      training=args.training,
      threshold=args.threshold,
      strangers=args.strangers or 0.5,
    )
  if args.protocol == "certainty":
    return certainty.told(model, options)
  fold = None if args.fold is None else args.fold - 1
  if args.protocol == "drawn":
    return drawn.verified(
      model,
      options,
      count=args.drawn_pairs or _PAIRS,
      seed=args.seed,
      threshold=args.threshold,
      fold=fold,
    )
  return videos.verified(
    model,
    options,
    file=args.pairs,
    rule=args.rule or "both",
    frames=args.frames,
    threshold=args.threshold,
    fold=fold,
  )


def _spelt(flag: str) -> str:
  return f"--{flag.replace('_', '-')}"
