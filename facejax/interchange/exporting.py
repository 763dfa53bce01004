"""Writes one file of a net, reads it again, and says beside it what it is."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import facejax
from facejax.interchange import formats
from facejax.runs import net as stored_net
from facejax.runs import results
from facejax.runtime import whole_files

# Of generated faces; and the least cosine between net and file on them.
_FACES = 3
_LEAST_COSINE = 0.99999


def export(
  net: stored_net.StoredNet,
  form: str,
  path: str | os.PathLike[str],
  *,
  run: str | os.PathLike[str],
) -> dict[str, Any]:
  """Writes, checks and describes one file.

  Args:
    net: what to write.
    form: one of `export_formats.FORMATS`.
    path: the file; replaced if it exists. Its folder is made.
    run: the folder that the net is of, for its metrics.

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
  draft = path.with_name(f"{path.name}.tmp")
  try:
    written.write(net, draft)
    checked = _compare(
      net, lambda images: written.embed(net, draft, images), form
    )
    about = {"file": path.name, **_about(net, form, draft, checked)}
    about["metrics"] = metrics(run)
    whole_files.commit(draft, path)
  finally:
    draft.unlink(missing_ok=True)
  text = json.dumps(results.plain(about), indent=2) + "\n"
  whole_files.write(path.with_name(f"{path.name}.json"), text.encode())
  return about


def metrics(run: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
  """What a run and its evaluations scored, by the name of the set.

  Raises:
    ValueError: if a file of results is damaged.
  """
  found: dict[str, dict[str, Any]] = {}
  path = pathlib.Path(run) / results.FOLDER / f"{results.TAKEN}.json"
  if path.exists():
    try:
      stored = json.loads(path.read_text())["results"]
      found |= {name: dict(each["metrics"]) for name, each in stored.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise ValueError(f"{path} is damaged ({error!r})") from None
  for result in results.read_all(run):
    found[result.name] = {
      quantity.key: {"value": quantity.value, "convention": quantity.convention}
      for quantity in result.quantities
    }
  return found


def _compare(
  net: stored_net.StoredNet,
  embed: Callable[[np.ndarray], np.ndarray],
  form: str,
) -> dict[str, Any]:
  """Embeds a batch, and one image alone, with the net and with the file."""
  images = stored_net.example_images(net.card.image_size, _FACES)
  wanted = np.asarray(net.compiled(net.params, net.stats, images))
  wanted = np.concatenate([wanted, wanted[:1]])
  found = np.concatenate([embed(images), embed(images[:1])])
  if found.shape != wanted.shape:
    raise ValueError(
      f"the {form} file makes embeddings {found.shape}, the net {wanted.shape}"
    )
  found = found / np.linalg.norm(found, axis=1, keepdims=True)
  cosines = np.sum(found * wanted, axis=1, dtype=np.float64)
  if not cosines.min() >= _LEAST_COSINE:  # nor if one is not a number
    raise ValueError(
      f"the {form} file does not agree with the net: cosine"
      f" {cosines.min():.6f} on generated faces, wanted {_LEAST_COSINE}"
    )
  return {
    "images": f"{_FACES} generated faces",
    "least_cosine": min(1.0, float(cosines.min())),
    "largest_difference": float(np.abs(found - wanted).max()),
  }


def _about(net, form, draft, checked) -> dict[str, Any]:
  written, card = formats.FORMATS[form], net.card
  height, width = card.image_size
  return {
    "format": form,
    "bytes": draft.stat().st_size,
    "sha256": whole_files.sha256(draft),
    "input": written.takes.format(
      height=height, width=width, colors=card.colors
    ),
    "output": written.gives.format(dim=card.embedding_dim),
    "checked": checked,
    "net": dataclasses.asdict(card),
    "step": net.step,
    "versions": {"facejax": facejax.__version__, "jax": jax.__version__},
  }
