"""Makes a verification pack: python -m facejax.data.make_pairs --help."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image

from facejax.data import encoded
from facejax.data.pairs import encoded_pairs, listed, packs_write, protocols
from facejax.runtime import command_line, progress

_DESCRIPTION = """Makes a verification pack of a folder of images and a list of pairs.

Examples:
  python -m facejax.data.make_pairs lfw_112 pairs.txt lfw.bin
      LFW as InsightFace and others read it
  python -m facejax.data.make_pairs lfw_112 pairs.txt lfw.npz
      the same without a pickle, with its folds and the names of the images
  python -m facejax.data.make_pairs cfp_112 cfp-dataset/Protocol/Split/FP \\
      cfp_fp.bin
      CFP, frontal against profile; images at cfp_112/001/frontal/01.jpg
  python -m facejax.data.make_pairs calfw pairs_CALFW.txt calfw.npz \\
      --image-size 112 112 --crop 0.8
      the centres of the images, brought to 112 x 112

Images are stored byte for byte, or with --image-size as PNG. Every one is
decoded once: a pack that is written can be read whole. A .bin is a pickle;
facejax reads it without running it, other programs may not.

Exit codes: 0 written; 2 bad input, and nothing was written."""

_LISTS = """a list of pairs: pairs.txt of LFW, pairs_CALFW.txt, pairs_CPLFW.txt,
'FIRST SECOND 1' a line as for AgeDB-30 and MLFW, RFW's, BFW's table, or Split/FP
or Split/FF of CFP"""


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  pairs = make(args)
  size = os.path.getsize(args.out) / 1e6
  folds = len(np.unique(pairs.fold))
  print(
    f"{args.out}: {len(pairs):,} pairs, {int(pairs.same.sum()):,} of them"
    f" genuine, in {folds} folds; {len(pairs.files):,} images, {size:,.1f} MB"
  )
  return 0


def make(args: argparse.Namespace) -> encoded_pairs.EncodedPairs:
  """Writes the pack; returns what is in it."""
  command_line.check_order(
    "FOLDER",
    args.folder,
    is_one=os.path.isdir,
    what="a folder",
    others={"PAIRS": args.pairs},
  )
  packs_write.check_target(args.out)
  if args.crop != 1.0 and args.image_size is None:
    raise ValueError("--crop goes with --image-size: it changes the images")
  if os.path.exists(args.out) and os.path.samefile(args.pairs, args.out):
    raise ValueError(f"{args.out!r} is the list of pairs itself")
  pairs = listed.listed_pairs(args.pairs, args.folder, args.protocol)
  files = _Checked(pairs.files, args.image_size, args.crop)
  total = len(pairs.files)
  with progress.counting("read", total) as advance:
    packs_write.write_pack(
      args.out,
      encoded_pairs.EncodedPairs(
        files, pairs.first, pairs.second, pairs.same, pairs.fold
      ),
      advance=advance,
    )
  return pairs


class _Checked:
  """Images that are known to decode, resized or as they are stored."""

  def __init__(
    self,
    files: encoded.EncodedImages,
    image_size: Sequence[int] | None,
    crop: float,
  ):
    height, width = image_size or (1, 1)
    self._files = files
    self._resize = image_size is not None
    self._decoded = encoded.Decoded(
      files, image_size=(height, width), crop=crop
    )
    self.num_classes = files.num_classes
    self.labels = files.labels
    self.class_names = files.class_names

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    return self._files.name(index)

  def encoded(self, index: int) -> bytes:
    image = self._decoded[index]
    if not self._resize:
      return self._files.encoded(index)
    file = io.BytesIO()
    # Without loss, so that no encoder comes into the result.
    Image.fromarray(np.ascontiguousarray(image)).save(file, format="PNG")
    return file.getvalue()


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("data.make_pairs", _DESCRIPTION)
  add = parser.add_argument
  add("folder", metavar="FOLDER", help="the images, as the list calls them")
  add("pairs", metavar="PAIRS", help=_LISTS)
  add(
    "out", metavar="OUT", help="the pack, .bin or .npz; replaced if it exists"
  )
  add(
    "--protocol",
    choices=protocols.PROTOCOLS,
    help="whose list it is (default: by its content)",
  )
  add(
    "--image-size",
    type=int,
    nargs=2,
    metavar=("HEIGHT", "WIDTH"),
    help="bring the images to this size (default: as they are stored)",
  )
  add(
    "--crop",
    type=command_line.number(float, 0, 1),
    default=1.0,
    metavar="SHARE",
    help="with --image-size: the share of the centre to keep (default 1)",
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
