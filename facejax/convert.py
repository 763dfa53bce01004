"""Takes weights over: python -m facejax.convert backbone.pth --net iresnet50."""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import get_args

import jax
import numpy as np

import facejax
from facejax.data import orientation
from facejax.interchange import agreement, importing, state_dicts
from facejax.models import functional
from facejax.runs import card as card_lib
from facejax.runs import net as net_lib
from facejax.runtime import command_line, whole_files

_DESCRIPTION = """Makes the folder of a run from weights of elsewhere.

It can then be embedded with, evaluated, exported, and fine-tuned
(facejax.train --init-from RUN), as if it had been trained here.

WEIGHTS is a .pt or .pth file of PyTorch with the names of arcface_torch
(iResNet, MobileFaceNet, ViT) or of SphereFace's released files, or such names
in .safetensors; or a .safetensors file of facejax.export, which needs no --net.
PyTorch is not needed, and nothing in the file is run. A tensor too many or too
few is refused, with its name.

Examples:
  python -m facejax.convert backbone.pth --net iresnet50 --workdir runs/r50
  python -m facejax.convert checkpoint_gpu_0.pt --net iresnet100 \\
      --workdir runs/r100 --prototypes checkpoint_gpu_*.pt
      a run of arcface_torch on several GPUs, with its class weights
  python -m facejax.convert run.pt --net mbf --prefix backbone. --colors BGR \\
      --workdir runs/mbf
      the names that begin with "backbone."; a net that was trained on BGR

Exit codes: 0 written, 2 bad input."""

_FACES = 2


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  importing.check_folder(args.workdir)
  card = importing.own_card(args.weights)
  if card is not None:
    _check_own(args, card)
    weights = importing.read_own(args.weights, card)
    # It holds one set of weights: the average, if there was one.
    card = dataclasses.replace(card, averaged=False, dtype="float32")
  else:
    card, weights = _read(args)
  if args.prototypes:
    prototypes = state_dicts.read_prototypes(args.prototypes)
    weights = dataclasses.replace(weights, prototypes=prototypes)
    card = dataclasses.replace(card, identities=len(prototypes))
  _try(card, weights)
  importing.write(args.workdir, card, weights)
  print(
    f"{args.workdir}: {card.net}, {functional.count(weights.params):,}"
    f" parameters, embeddings of {card.embedding_dim}"
  )
  if weights.prototypes is not None:
    print(f"and {len(weights.prototypes):,} class weights")
  return 0


def _read(
  args: argparse.Namespace,
) -> tuple[card_lib.Card, importing.ImportedWeights]:
  """Card and weights of a state dict."""
  if args.net is None:
    raise ValueError(
      f"--net: say which net {args.weights!r} is for: {importing.nets()}"
    )
  size = tuple(args.image_size)
  functional.check_image_size(args.net, size)
  arrays = state_dicts.read_net(args.weights, prefix=args.prefix)
  card = card_lib.Card(
    net=args.net,
    embedding_dim=importing.infer_dim(args.net, size, arrays),
    image_size=size,
    crop=args.crop,
    se=args.se,
    exif=args.exif,
    colors=args.colors,
    trained_on=args.trained_on,
    loss=args.loss,
    source=f"{os.path.basename(args.weights)}, SHA-256"
    f" {whole_files.sha256(args.weights)}",
    versions={"facejax": facejax.__version__, "jax": jax.__version__},
  )
  try:
    return card, importing.read_state_dict(card, arrays, ignore=args.ignore)
  except ValueError as error:
    raise ValueError(f"{args.weights!r}: {error}") from None


def _check_own(args: argparse.Namespace, card: card_lib.Card) -> None:
  if args.net not in (None, card.net):
    raise ValueError(
      f"{args.weights!r} holds net {card.net!r}, as its card says; not"
      f" {args.net!r}"
    )


def _try(card: card_lib.Card, weights: importing.ImportedWeights) -> None:
  """Embeds generated faces: what makes no embeddings is not written."""
  net = net_lib.TrainedNet(
    card, 0, net_lib.build(card), weights.params, weights.stats
  )
  images = agreement.example_images(card.image_size, _FACES)
  embeddings = np.asarray(net.compiled(net.params, net.stats, images))
  if not np.isfinite(embeddings).all():
    raise ValueError("these weights make embeddings that are not finite")


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("convert", _DESCRIPTION)
  add = parser.add_argument
  add("weights", metavar="WEIGHTS", help=".pt, .pth or .safetensors")
  nets = importing.nets()
  add("--net", choices=nets, metavar="NET", help=f"one of {', '.join(nets)}")
  add(
    "--workdir",
    metavar="RUN",
    type=pathlib.Path,
    required=True,
    help="folder of the run to make",
  )
  add(
    "--image-size",
    metavar=("HEIGHT", "WIDTH"),
    nargs=2,
    type=command_line.number(int, 1, 4096),
    default=(112, 112),
    help="of the images that the net takes (112 112)",
  )
  add(
    "--crop",
    type=command_line.number(float, 0, 1),
    default=1.0,
    help="share of each side of an image, about its centre, to use (1)",
  )
  add(
    "--colors",
    choices=("RGB", "BGR"),
    default="RGB",
    help="order of the channels that the net was trained with (RGB)",
  )
  add(
    "--exif",
    choices=get_args(orientation.Exif),
    default="apply",
    help="turn images as their EXIF says, or leave them as stored (apply)",
  )
  add("--se", action="store_true", help="it has squeeze-and-excitation")
  add("--prefix", default="", help="take only names that begin so, without it")
  add(
    "--ignore",
    metavar="NAME",
    nargs="+",
    default=(),
    help="tensors to leave out, such as those of a head",
  )
  add(
    "--prototypes",
    metavar="FILE",
    nargs="+",
    default=(),
    help="class weights, one file for each GPU of the run",
  )
  add("--trained-on", metavar="TEXT", default="", help="for the card: the data")
  add("--loss", metavar="TEXT", default="", help="for the card: the loss")
  return parser


if __name__ == "__main__":
  sys.exit(main())
