"""Embedding a large set in parts that survive a kill, joined at the end."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from facejax.data import encoded, fingerprints, image_sets, images
from facejax.runs import embedder as embedder_lib
from facejax.runtime import distributed, folder_lock, json_files
from facejax.vectors import embeddings as embeddings_lib

_PLAN, _LOCK = "plan.json", "lock"


@dataclasses.dataclass(frozen=True)
class EmbedJob:
  """What is to be embedded, and how.

  The same job again goes on where it was stopped, and writes the same bytes.

  Attributes:
    model: the net.
    files: the images.
    out: the file of embeddings, .npz or .parquet.
    batch_size: images at once, over all devices.
    flip: whether mirror images are summed, as verification does.
    part: images whose embeddings are saved together.
    on_error: an image that cannot be read: "skip" leaves it out and says so,
      "raise" stops.
    max_bad_share: largest share of such images.
  """

  model: embedder_lib.Embedder
  files: encoded.EncodedImages
  out: pathlib.Path
  batch_size: int = 128
  flip: bool = True
  part: int = 4096
  on_error: Literal["skip", "raise"] = "skip"
  max_bad_share: float = 0.01

  @property
  def parts_folder(self) -> pathlib.Path:
    """Where the parts lie until all are there."""
    return self.out.with_name(f"{self.out.name}.parts")

  def about(self) -> dict[str, Any]:
    """What is stored with the embeddings."""
    return self.model.about(flip=self.flip)


def run(
  job: EmbedJob, advance: Callable[[int], None] = lambda count: None
) -> embeddings_lib.Embeddings | None:
  """Embeds what is not yet embedded, and joins all parts.

  Of several processes, each embeds its share, and the first one writes.

  Args:
    job: what to do.
    advance: told how many more images are done.

  Returns:
    What was written, without the vectors; None in all processes but the first.

  Raises:
    ValueError: if the parts there are of another job, an image cannot be read
      and must be, or too many cannot.
    OSError: if the parts cannot be written, or another process is at work.
  """
  embeddings_lib.check_suffix(job.out)
  job.parts_folder.mkdir(exist_ok=True)
  advice = folder_lock.Advice("name another file of embeddings")
  lock = contextlib.nullcontext()
  if distributed.primary():
    lock = folder_lock.held(job.parts_folder / _LOCK, advice)
  with lock:
    return _run(job, advance)


def _run(
  job: EmbedJob, advance: Callable[[int], None]
) -> embeddings_lib.Embeddings | None:
  """The same where no other job is at work."""
  distributed.only_primary(lambda: _prepare(job))
  starts = range(0, len(job.files), job.part)
  paths = [job.parts_folder / f"{k:06d}.npz" for k in range(len(starts))]
  done = distributed.gathered([path.exists() for path in paths])[0]
  bad: list[str] = []
  for start, path, there in zip(starts, paths, done, strict=True):
    if there:
      bad += embeddings_lib.read_skipped(path)
      advance(min(job.part, len(job.files) - start))
    else:
      part = _embed(job, start, advance)
      bad += part.skipped
      _check_bad(job, bad)
      if distributed.primary():
        embeddings_lib.write(path, part)
  _check_bad(job, bad)
  _check_some(job, bad)
  if not distributed.primary():
    return None
  whole = embeddings_lib.join(job.out, paths)
  shutil.rmtree(job.parts_folder)
  return whole


def in_memory(
  model: embedder_lib.Embedder,
  files: encoded.EncodedImages,
  *,
  flip: bool,
  advance: Callable[[int], None] = lambda count: None,
) -> embeddings_lib.Embeddings:
  """Embeds a small set at once; images that cannot be read are left out."""
  count = max(1, len(files))
  job = EmbedJob(
    model,
    files,
    pathlib.Path("nowhere.npz"),
    batch_size=min(128, 1 << (count - 1).bit_length()),
    flip=flip,
    part=count,
    max_bad_share=1.0,
  )
  found = _embed(job, 0, advance)
  _check_some(job, found.skipped)
  # As it would be read from a file.
  return dataclasses.replace(found, about=json.loads(json.dumps(found.about)))


def _prepare(job: EmbedJob) -> None:
  """Says whose parts they are, or checks that they are of this job."""
  plan = {
    **job.about(),
    "images": len(job.files),
    "fingerprint": fingerprints.fingerprint(job.files),
    "batch_size": job.batch_size,
    "part": job.part,
  }
  path = job.parts_folder / _PLAN
  if path.exists():
    _check_plan(path, json.loads(json.dumps(plan)))
    return
  json_files.write(path, plan)


def _check_plan(path: pathlib.Path, plan: Mapping[str, Any]) -> None:
  try:
    stored = json_files.read(path)
    differing = [name for name in plan if stored.get(name) != plan[name]]
  except (ValueError, AttributeError):
    differing = ["everything, as the plan is damaged"]
  if differing:
    raise ValueError(
      f"{os.fspath(path.parent)!r} holds parts of another job, which differs in"
      f" {', '.join(differing)}: finish that one, or name another OUT"
    )


def _embed(
  job: EmbedJob, start: int, advance: Callable[[int], None]
) -> embeddings_lib.Embeddings:
  """One part."""
  model, files = job.model, job.files
  kept: list[int] = []
  vectors, skipped = [], []

  def left_out(index: int, error: images.BadImageError) -> None:
    reason = f"{files.name(index)}: {error}"
    if job.on_error == "raise":
      raise ValueError(reason) from None
    skipped.append(reason)

  for indices, found in model.embedded(
    lambda index: model.image(files.encoded(index)),
    range(start, min(start + job.part, len(files))),
    size=model.batch_size(job.batch_size),
    flip=job.flip,
    name=files.name,
    advance=advance,
    unreadable=left_out,
  ):
    kept += indices
    vectors.append(found)
  dim = model.card.embedding_dim
  return embeddings_lib.Embeddings(
    vectors=np.concatenate([np.empty((0, dim), np.float32), *vectors]),
    paths=np.asarray([image_sets.image_path(files, k) for k in kept], str),
    labels=np.asarray(files.labels[kept], np.int32),
    names=files.class_names if start == 0 else (),
    about=job.about(),
    skipped=skipped,
  )


def _check_some(job: EmbedJob, bad: Sequence[str]) -> None:
  if len(bad) == len(job.files):
    raise ValueError(f"no image could be read; the first: {bad[0]}")


def _check_bad(job: EmbedJob, bad: list[str]) -> None:
  if len(bad) > job.max_bad_share * len(job.files):
    raise ValueError(
      f"{len(bad)} of {len(job.files)} images could not be read, more than the"
      f" allowed share of {job.max_bad_share:g}: {'; '.join(bad[:3])}. Repair"
      " them, move them elsewhere, or allow more (--max-bad-share of facejax.embed)"
    )
