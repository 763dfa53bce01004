"""Writes one file of a net, reads it again, and says beside it what it is."""

import dataclasses
import os
import pathlib
from typing import Any

import jax

import facejax
from facejax.interchange import agreement, formats
from facejax.runs import metrics_file, results
from facejax.runs import net as net_lib
from facejax.runtime import json_files, whole_files


def export(
  net: net_lib.TrainedNet,
  form: str,
  path: str | os.PathLike[str],
  *,
  run: str | os.PathLike[str],
  **options: int,
) -> dict[str, Any]:
  """Writes, checks and describes one file.

  Args:
    net: what to write.
    form: one of `formats.FORMATS`.
    path: the file; replaced if it exists. Its folder is made.
    run: the folder that the net is of, for its metrics.
    options: of the format: `opset` of ONNX.

  Returns:
    What was written to `path`.json.

  Raises:
    ValueError: if the format cannot hold this net, or what was written does
      not agree with it; there is no new file then.
    ImportError: without the packages that the format needs.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  written = formats.FORMATS[form]
  with whole_files.replacing(path) as draft:
    written.write(net, draft, **options)
    checked = agreement.compare(
      net, lambda images: written.embed(net, draft, images), form
    )
    about = {"file": path.name, **_about(net, form, draft, checked)}
    about["metrics"] = metrics_file.scores(run)
  beside = path.with_name(f"{path.name}.json")
  json_files.write(beside, results.plain(about))
  return about


def _about(net, form, draft, checked) -> dict[str, Any]:
  written, card = formats.FORMATS[form], net.card
  height, width = card.image_size
  return {
    "format": form,
    "bytes": draft.stat().st_size,
    "sha256": whole_files.sha256(draft),
    "input": written.takes.format(
      height=height, width=width, colors=card.colors, pixels=card.pixels
    ),
    "output": written.gives.format(dim=card.embedding_dim),
    "checked": checked,
    "net": dataclasses.asdict(card),
    "step": net.step,
    "versions": {"facejax": facejax.__version__, "jax": jax.__version__},
    **written.lasts(),
  }
