"""Answers over HTTP: python -m facejax.serve RUN --gallery G."""

import argparse
import os
import pathlib
import secrets
import sys
from collections.abc import Sequence

import numpy as np

from facejax.evaluation import face_batches, face_http, face_service
from facejax.runs import embedder, photographs
from facejax.runtime import command_flags, command_line, extras

_DESCRIPTION = """Verifies, identifies and enrols faces for programs, over HTTP.

  POST /verify    {"first": PICTURE, "second": PICTURE}
  POST /identify  {"image": PICTURE, "top": 5}
  POST /enrol     {"name": "Ada", "images": [PICTURE, ...]}
  GET  /health    what runs; wants no token
  GET  /metrics   for Prometheus

A PICTURE is a file's bytes in base64: a photograph, or an aligned face. Answers are
JSON. No path is taken from the network. It listens on this machine alone unless
--host says otherwise, and speaks plain HTTP: put a proxy with TLS before it where
others can reach it. Requests carry the token that is printed at the start (or that
FACEJAX_TOKEN names). Faces that arrive at the same time are embedded together.

Examples:
  python -m facejax.serve dlib_resnet29 --gallery people/people.gallery
  curl -H "Authorization: Bearer $TOKEN" 127.0.0.1:8000/identify \\
      -d "{\\"image\\": \\"$(base64 -w0 who.jpg)\\"}"
  python -m facejax.serve runs/mine --port 9000 --no-token

Needs pip install 'facejax[serve]'. Ctrl-C answers what has begun, and ends.

Exit codes: 0 ended, by Ctrl-C or SIGTERM too; 2 bad input."""
_TOKEN = "FACEJAX_TOKEN"


@command_line.command(computes=True, resumes=True)
def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line; returns the exit code."""
  args = parser().parse_args(arguments)
  with extras.needed():
    import uvicorn
  model = embedder.load(args.run, devices=1)
  photographer = photographs.Photographer(model.card, args.align, args.detector)
  service = face_service.FaceService(
    model, photographer, args.gallery, threshold=args.threshold
  )
  if photographer.note:
    print(f"note: {photographer.note}", file=sys.stderr)
  _warm(model)
  token = _token(args)
  limits = face_http.Limits(
    args.max_mib * 2**20, args.timeout, at_once=args.at_once
  )
  app = face_http.app(service, token=token, limits=limits)
  said = f" token {token}" if token else " no token: anybody here may ask"
  print(f"http://{args.host}:{args.port}{said}", flush=True)
  uvicorn.run(
    app,
    host=args.host,
    port=args.port,
    log_level="warning",
    timeout_keep_alive=5,
    timeout_graceful_shutdown=int(args.timeout) + 1,
    limit_concurrency=8 * args.at_once,
  )
  service.batches.close()
  return 0


def _token(args: argparse.Namespace) -> str:
  if args.no_token:
    return ""
  return os.environ.get(_TOKEN) or secrets.token_urlsafe(24)


def _warm(model: embedder.Embedder) -> None:
  """Compiles for all sizes of a batch before anybody waits for it."""
  height, width = model.card.image_size
  # Noise: what is all of one colour may have no direction.
  noise = np.random.default_rng(0).integers(
    0, 256, (height, width, 3), np.uint8
  )
  for size in face_batches.SIZES:
    model.embed([noise] * size, flip=True)


def parser() -> command_line.Parser:
  """The parser of the command line."""
  parser = command_line.parser("serve", _DESCRIPTION)
  add = parser.add_argument
  add("run", metavar="RUN", help="folder of a trained net, or dlib_resnet29")
  add(
    "--gallery",
    type=pathlib.Path,
    metavar="GALLERY",
    help="of facejax.search build; made by the first /enrol if it is not there",
  )
  add("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
  add(
    "--port",
    type=command_line.number(int, 1, 65535),
    default=8000,
    help="(8000)",
  )
  add(
    "--threshold",
    type=command_line.number(float, -1, 1),
    help="cosine that decides (that of the run's verification)",
  )
  add("--no-token", action="store_true", help="let anybody ask who reaches it")
  add(
    "--max-mib",
    type=command_line.number(int, 1, 1024),
    default=16,
    metavar="MIB",
    help="largest request (16)",
  )
  add(
    "--timeout",
    type=command_line.number(float, 0.1, 3600),
    default=30.0,
    metavar="SECONDS",
    help="to send a request, and again to answer it (30)",
  )
  add(
    "--at-once",
    type=command_line.number(int, 1, 1024),
    default=32,
    metavar="N",
    help="requests that are worked on at a time; others are told to wait (32)",
  )
  command_flags.photographs(parser)
  return parser


if __name__ == "__main__":
  sys.exit(main())
