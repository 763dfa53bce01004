"""Takes weights over: python -m facejax.convert backbone.pth --net iresnet50."""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import get_args

import jax
import numpy as np

import facejax
from facejax.data import orientation
from facejax.interchange import (
  agreement,
  importing,
  layouts,
  recognition,
  state_dicts,
)
from facejax.models import functional
from facejax.runs import card as card_lib
from facejax.runs import imported, pretrained
from facejax.runs import net as net_lib
from facejax.runtime import command_line, whole_files

_DESCRIPTION = """Makes the folder of a run from weights of elsewhere.

It can then be embedded with, evaluated, exported, and fine-tuned
(facejax.train --init-from RUN), as if it had been trained here.

WEIGHTS is a .pt or .pth file of PyTorch, or .safetensors, with the names of
arcface_torch (iResNet, MobileFaceNet, ViT), MagFace, ElasticFace, AdaFace and
CVLface (IR-18 to IR-101, IR-SE, ViT), InsightFace_Pytorch and face.evoLVe (IR,
IR-SE), facenet-pytorch or SphereFace's released files; or a .safetensors file
of facejax.export, or dlib's .dat of its face net, which need no --net. PyTorch is not needed, and nothing in
the file is run. A tensor too many or too few is refused, with its name; what is
chosen or left out is said on stderr.

Examples:
  python -m facejax.convert backbone.pth --net iresnet50 --workdir runs/r50
  python -m facejax.convert adaface_ir50_ms1mv2.ckpt --net ir50 \\
      --workdir runs/adaface
      AdaFace's: on BGR, which is its default
  python -m facejax.convert 20180402-114759-vggface2.pt \\
      --net inception_resnet_v1 --workdir runs/vggface2
      facenet-pytorch's: 160 x 160, (x - 127.5) / 128
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
  imported.check_folder(args.workdir)
  card = importing.own_card(args.weights)
  if card is not None:
    _check_own(args, card)
    weights = importing.read_own(args.weights, card)
    # It holds one set of weights: the average if there was one, merged.
    card = dataclasses.replace(card, averaged=False, lora=0, dtype="float32")
  else:
    card, weights = _read(args)
  if args.class_names and not args.prototypes:
    raise ValueError("--class-names are those of --prototypes: give both")
  names: Sequence[str] = ()
  if args.prototypes:
    prototypes = state_dicts.read_prototypes(args.prototypes)
    if args.class_names:
      names = importing.read_names(args.class_names, len(prototypes))
    weights = dataclasses.replace(weights, prototypes=prototypes)
    card = dataclasses.replace(card, identities=len(prototypes))
  _try(card, weights)
  imported.write(args.workdir, card, weights, names=names)
  print(
    f"{args.workdir}: {card.net}, {functional.count(weights.params):,}"
    f" parameters, embeddings of {card.embedding_dim}"
  )
  if weights.prototypes is not None:
    print(f"and {len(weights.prototypes):,} class weights")
  return 0


def _read(
  args: argparse.Namespace,
) -> tuple[card_lib.Card, imported.ImportedWeights]:
  """Card and weights of a state dict, or of dlib's file."""
  if os.fspath(args.weights).endswith(".dat"):
    card, weights = pretrained.read(args.weights)
    _check_own(args, card)
    return dataclasses.replace(card, trained_on=args.trained_on), weights
  if args.net and args.image_size:
    functional.check_image_size(args.net, tuple(args.image_size))
  found = state_dicts.read(args.weights, prefix=args.prefix)
  arrays = layouts.renamed(found.arrays)
  net = recognition.choose(args.net, arrays, path=args.weights)
  height, width = args.image_size or recognition.image_size(net.net)
  functional.check_image_size(net.net, (height, width))
  layout = layouts.find(arrays, found.prefix)
  notes = list(found.notes)
  if net.net != args.net:
    notes.append(f"net {net.net!r}, whose names these are, not {args.net!r}")
  notes += [layout.advice] if layout.advice else []
  try:
    epsilon = args.bn_epsilon or layout.epsilon
    change = epsilon - recognition.epsilon(net.net) if epsilon else 0.0
    arrays = layouts.folded(arrays, epsilon_change=change)
    card = _card(args, net, (height, width), layout, arrays)
    classes = importing.classifier(card, arrays)
    ignore = [*args.ignore, *classes]
    weights = importing.read_state_dict(card, arrays, ignore=ignore)
  except ValueError as error:
    raise ValueError(f"{args.weights!r}: {error}") from None
  if classes:
    notes.append(f"left out the weights of classes: {', '.join(classes)}")
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  return card, weights


def _card(
  args: argparse.Namespace,
  net: recognition.Recognised,
  size: tuple[int, int],
  layout: layouts.Layout,
  arrays: Mapping[str, np.ndarray],
) -> card_lib.Card:
  return card_lib.Card(
    net=net.net,
    embedding_dim=importing.infer_dim(net.net, size, arrays),
    image_size=size,
    crop=args.crop,
    exif=args.exif,
    se=args.se or net.se,
    colors=args.colors or layout.colors,
    pixel_mean=args.pixel_mean,
    pixel_scale=args.pixel_scale or layout.pixel_scale,
    trained_on=args.trained_on,
    loss=args.loss,
    source=f"{os.path.basename(args.weights)}, SHA-256"
    f" {whole_files.sha256(args.weights)}",
    versions={"facejax": facejax.__version__, "jax": jax.__version__},
  )


def _check_own(args: argparse.Namespace, card: card_lib.Card) -> None:
  if args.net not in (None, card.net):
    raise ValueError(
      f"{args.weights!r} holds net {card.net!r}, as its card says; not"
      f" {args.net!r}"
    )


def _try(card: card_lib.Card, weights: imported.ImportedWeights) -> None:
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
  nets = recognition.nets()
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
    help="of the images that the net takes (112 112, but 160 160 for"
    " inception_resnet_v1)",
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
    help="order of the channels that the net was trained with (RGB, but BGR"
    " for AdaFace's names)",
  )
  add(
    "--pixel-mean",
    type=command_line.number(float, 0, 255),
    default=functional.PIXEL_MEAN,
    help="pixels enter as (x - mean) / scale (127.5)",
  )
  add(
    "--pixel-scale",
    type=command_line.number(float, 1e-3, 255),
    help="see there (127.5, but 128 for facenet-pytorch's names)",
  )
  add(
    "--bn-epsilon",
    metavar="EPSILON",
    type=command_line.number(float, 1e-12, 1),
    help="of its BatchNorm, where it is another than in the published code; it"
    " is folded into the variances (2e-5 for MagFace's nets)",
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
  add(
    "--class-names",
    metavar="FILE",
    help="names of these classes, one a line in their order, by which"
    " fine-tuning takes them along",
  )
  add("--trained-on", metavar="TEXT", default="", help="for the card: the data")
  add("--loss", metavar="TEXT", default="", help="for the card: the loss")
  return parser


if __name__ == "__main__":
  sys.exit(main())
