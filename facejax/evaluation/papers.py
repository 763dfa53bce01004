"""YouTube Faces and MegaFace for `facejax.evaluate`: flags, checks, names."""

import argparse
import pathlib
from typing import Any, get_args

from facejax.evaluation import megaface, protocols, videos
from facejax.runs import embedder, results
from facejax.runtime import command_line, text_lines

NAMES = ("ytf", "megaface")
# What else a protocol takes, and what it needs; `--path` all need.
_NEEDED = {"ytf": ("pairs", "path"), "megaface": ("path", "distractors")}
_REFUSED = {
  "ytf": ("gallery_net", "threshold_pairs", "distractors", "leave_out"),
  "megaface": (
    "gallery_net", "threshold_pairs", "threshold", "fold", "pairs", "frames",
    "rule",
  ),
}  # fmt: skip


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


def check(args: argparse.Namespace) -> None:
  """Refuses what does not belong, and says what is missing.

  Raises:
    ValueError: naming the flag.
  """
  mine = args.protocol if args.protocol in NAMES else ""
  if not mine:
    flags = ("frames", "rule", "distractors", "leave_out")
  else:
    flags = _REFUSED[mine]
  for name in flags:
    if getattr(args, name) not in (None, ""):
      raise ValueError(f"--protocol {args.protocol} has no {_flag(name)}")
  for name in _NEEDED.get(mine, ()):
    if not getattr(args, name):
      raise ValueError(f"--protocol {mine} needs {_flag(name)}")


def name(args: argparse.Namespace) -> str:
  """What the result is called when nobody says."""
  if args.protocol == "megaface":
    probes = pathlib.Path(args.path).resolve().stem
    refined = "_refined" if args.leave_out else ""
    return f"megaface_{text_lines.printable(probes)}{refined}"
  out = args.protocol
  if args.frames:
    out += f"_first{args.frames}"
  if args.rule not in (None, "both"):
    out += f"_{args.rule}"
  return out


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
  return videos.verified(
    model,
    options,
    file=args.pairs,
    rule=args.rule or "both",
    frames=args.frames,
    threshold=args.threshold,
    fold=None if args.fold is None else args.fold - 1,
  )


def _flag(name: str) -> str:
  return f"--{name.replace('_', '-')}"
