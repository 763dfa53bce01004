"""Hands a trained net on: python -m facejax.export RUN --format onnx."""

import pathlib
import sys
from collections.abc import Sequence

from facejax.interchange import exporting
from facejax.interchange import formats as export_formats
from facejax.runs import folder, pretrained
from facejax.runs import net as net_lib
from facejax.runtime import command_flags, command_line

_DESCRIPTION = """Writes a trained net in a format of others.

  onnx         for onnxruntime and for any client of ArcFace's nets: "data"
               [batch, 3, height, width], RGB, (x - 127.5) / 127.5
  stablehlo    for JAX alone, on CPUs, GPUs and TPUs: uint8 RGB [batch, height,
               width, 3] to embeddings of length 1; JAX of half a year later
               need not read it, so keep onnx or safetensors
  safetensors  the weights under our own names, with the card beside them;
               facejax.convert reads it back
  torch        a state dict for PyTorch under the names of the field's code

All compute in float32. Each file is read again and compared with the net on
generated faces before it gets its name. Beside it lies FILE.json: the card of
the net, what goes in and out, the run's metrics, and how well they agreed.

Examples:
  python -m facejax.export runs/cosface-lfw --format onnx
      writes runs/cosface-lfw/export/model.onnx
  python -m facejax.export runs/cosface-lfw --format onnx --opset 13
      for an older runtime
  python -m facejax.export runs/cosface-lfw --format onnx torch
      two at once
  python -m facejax.export runs/cosface-lfw --format torch \\
      --out backbone.pth
      elsewhere

Exit codes: 0 written and checked, 2 bad input, a missing extra, or a file that
does not agree with the net."""


@command_line.command(computes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  args = parser().parse_args(arguments)
  formats = list(dict.fromkeys(args.format))
  if args.opset is not None:
    if "onnx" not in formats:
      raise ValueError("--opset is of ONNX: name --format onnx with it")
    export_formats.check_opset(args.opset)
  if args.out and len(formats) > 1:
    raise ValueError("--out takes one file: name one --format with it")
  run = pretrained.located(args.workdir)
  net = net_lib.read(run)
  for form in formats:
    suffix = export_formats.FORMATS[form].suffix
    path = args.out or pathlib.Path(run, folder.EXPORT, f"model{suffix}")
    options = {"opset": args.opset} if form == "onnx" and args.opset else {}
    about = exporting.export(net, form, path, run=run, **options)
    checked = about["checked"]
    print(
      f"{path}  {about['bytes'] / 2**20:.1f} MiB, cosine to the net at least"
      f" {checked['least_cosine']:.7f} on {checked['images']}"
    )
  return 0


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("export", _DESCRIPTION)
  add = parser.add_argument
  command_flags.run(parser, kind=pathlib.Path)
  add(
    "--format",
    choices=tuple(export_formats.FORMATS),
    nargs="+",
    required=True,
    help="what to write, see above",
  )
  add(
    "--out",
    metavar="FILE",
    type=pathlib.Path,
    help="file to write (RUN/export/model and a suffix)",
  )
  add(
    "--opset",
    metavar="N",
    type=int,
    help="version of ONNX's operators, 13 or newer (17)",
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
