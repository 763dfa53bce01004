"""Qualities of faces by a net: asked for by name, a number an image."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from facejax.data import sources
from facejax.evaluation import features
from facejax.metrics import quality
from facejax.models import embed as embed_lib
from facejax.models import functional
from facejax.runs import embedder, embedding_loop, folder
from facejax.runs import net as net_lib
from facejax.runtime import progress

DRAWS = 100
USUAL = ("norm",)
CONVENTIONS = {
  "norm": "length of the features of image and mirror image summed",
  "serfiq": f"SER-FIQ: 2 sigmoid(- mean distance of {DRAWS} embeddings under"
  " dropout, at length 1); the same draws for every image",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds --quality."""
  parser.add_argument(
    "--quality",
    nargs="+",
    choices=tuple(CONVENTIONS),
    metavar="NAME",
    help="pairs: error against discard by norm (the usual) or serfiq, of nets"
    " that were trained with dropout",
  )


def of_flags(args: argparse.Namespace, *, takes: bool) -> tuple[str, ...]:
  """The qualities that are asked for.

  Raises:
    ValueError: if the protocol has none.
  """
  if args.quality is None:
    return USUAL
  if not takes:
    raise ValueError(
      "--quality is for pairs by one net: use --protocol pairs, drawn or one of"
      " the lists, without --gallery-net"
    )
  return tuple(dict.fromkeys(args.quality))


def check(model: embedder.Embedder, names: Sequence[str]) -> None:
  """Refuses a quality that the net cannot tell, before anything is embedded.

  Raises:
    ValueError: saying which nets can.
  """
  if "serfiq" in names:
    _dropout(model)


def of_images(
  model: embedder.Embedder,
  names: Sequence[str],
  used: features.Features,
  source: sources.Source,
  indices: Sequence[int],
  *,
  batch_size: int,
) -> Mapping[str, np.ndarray]:
  """Qualities by name, a number an image each.

  Args:
    model: the net.
    names: of `CONVENTIONS`.
    used: the features of the images.
    source: the images.
    indices: which of them.
    batch_size: images at once, over all devices.

  Raises:
    ValueError: as `check`.
  """
  told: Mapping[str, Callable[[], np.ndarray]] = {
    "norm": lambda: np.linalg.norm(used.summed.astype(np.float64), axis=1),
    "serfiq": lambda: serfiq(model, source, indices, batch_size=batch_size),
  }
  return {name: told[name]() for name in names}


def serfiq(
  model: embedder.Embedder,
  source: sources.Source,
  indices: Sequence[int],
  *,
  batch_size: int,
  draws: int = DRAWS,
) -> np.ndarray:
  """`quality.dropout_agreement` of images, [indices].

  All images see the same draws, so that a face has one quality whatever batch,
  device or process it goes through.

  Raises:
    ValueError: if the net was trained without dropout.
  """
  rate = _dropout(model)
  backbone = net_lib.build(model.card, model.card.dtype, dropout=rate)
  embed = embed_lib.make_draws(backbone, mesh=model.mesh, draws=draws)

  def agreement(images: np.ndarray) -> np.ndarray:
    found: Any = model.computed(embed, images)
    each = found.reshape(len(images), draws, -1)
    return quality.dropout_agreement(each)[:, None]

  with progress.counting("drawn", len(indices)) as advance:
    batches = embedding_loop.embedded(
      agreement,
      lambda index: source[index],
      list(indices),
      size=model.batch_size(batch_size),
      name=source.name,
      advance=advance,
      share=True,
    )
    return np.concatenate([found[:, 0] for _, found in batches])


def _dropout(model: embedder.Embedder) -> float:
  """The rate that a run was trained with.

  Raises:
    ValueError: if there was no dropout.
  """
  config = folder.read_config(model.run) or {}
  rate = float(config.get("model.dropout") or 0.0)
  if not rate:
    raise ValueError(
      f"--quality serfiq: {model.run} was trained without dropout, so that nothing"
      " is dropped in it; the nets that have a layer for it are"
      f" {', '.join(functional.NETS)}: train one with --model.dropout 0.4"
    )
  return rate
