"""Converts sets of images from one format to another, byte for byte.

The work is cut into shards. Each is written under a temporary name, brought to
the disk, named, and noted; an attempt that was killed goes on with those that
are not noted. What is written depends on the plan alone: not on the number of
processes, nor on interruptions.
"""

import os
import pathlib

import numpy as np

from facejax.data import encoded, fingerprints
from facejax.data.conversions import targets, to_folder, to_record_io, workspace
from facejax.data.conversions import workers as conversion_workers
from facejax.data.stores import set_header
from facejax.runtime import progress, whole_files

TARGETS: dict[str, targets.Target] = {
  "array_record": targets.ArrayRecordTarget(),
  "record_io": to_record_io.RecordIOTarget(),
  "folder": to_folder.FolderTarget(),
}

# Small sets are cut so that processes can share them, and large ones into
# files of a gigabyte or so.
_FEW, _MANY, _USUAL_SHARDS = 2048, 131_072, 64
_ORDER = "order.npy"


def plan(
  files: encoded.EncodedImages,
  *,
  to: str,
  source_kind: str,
  shards: int | None = None,
  shuffle: int | None = None,
) -> set_header.ConversionPlan:
  """Says what is to be made; reads the names of all images, not the images.

  Args:
    files: The source.
    to: The format to write: `array_record`, `record_io` or `folder`.
    source_kind: What the header calls the format of the source.
    shards: In how many parts; None chooses by the number of images.
    shuffle: Seed of a random order; None keeps that of the source.

  Raises:
    ValueError: An option is out of range, or the format cannot hold the set.
  """
  count = len(files)
  if shards is None:
    shards = max(min(_USUAL_SHARDS, -(-count // _FEW)), -(-count // _MANY))
  with progress.counting("names", count, unit="names") as advance:
    result = set_header.ConversionPlan(
      kind=to,
      images=count,
      identities=files.num_classes,
      source_kind=source_kind,
      source=fingerprints.fingerprint(files, advance),
      shuffle=shuffle,
      shard_count=shards,
    )
  TARGETS[to].check(files, result)
  return result


def _is_done(
  plan: set_header.ConversionPlan, destination: pathlib.Path
) -> bool:
  """Returns whether this very conversion is finished already."""
  folder = destination / TARGETS[plan.kind].header_folder
  try:
    return set_header.read(folder, kind=plan.kind).plan == plan
  except (ValueError, OSError):
    return False


def convert(
  files: encoded.EncodedImages,
  destination: str | os.PathLike[str],
  plan: set_header.ConversionPlan,
  *,
  workers: int = 1,
) -> bool:
  """Writes a set; after a kill, the same call goes on.

  Args:
    files: The source, which must not change meanwhile.
    destination: A folder that is not there yet, or is empty. Until the end the
      work lies beside it, in `DESTINATION.partial`.
    plan: What `plan` returned.
    workers: How many processes write.

  Returns:
    False when this very set is there already, and nothing was done.

  Raises:
    images.BadImageError: An image cannot be read.
    ValueError: The format cannot hold the name of an image.
    OSError: The destination is in use, or the disk full.
  """
  destination = pathlib.Path(os.path.abspath(destination))
  target = TARGETS[plan.kind]
  if _is_done(plan, destination):
    workspace.tidy(destination)
    return False
  workspace.check_free(destination)
  with workspace.opened(destination, plan) as partial:
    scratch = partial / workspace.SCRATCH
    site = targets.Site(files, partial, scratch)
    order = _order(site, target, plan)
    cuts = _cuts(files.labels, order, plan, target)
    path = None if order is None else scratch / _ORDER
    job = conversion_workers.ConversionJob(site, target, cuts, path)
    _write_shards(job, plan, workers)
    pieces = [job.done(number) for number in range(plan.shard_count)]
    shards, others = target.finish(site, order, [p for p in pieces if p])
    header = set_header.Header(plan, files.class_names, shards, others)
    folder = partial / target.header_folder
    set_header.write(folder, header)
    set_header.read(folder, kind=plan.kind)
    workspace.publish(partial, destination)
  return True


def _write_shards(
  job: conversion_workers.ConversionJob,
  plan: set_header.ConversionPlan,
  workers: int,
) -> None:
  """Writes the shards that are not finished."""
  sizes = np.diff(job.cuts)
  todo = [n for n in range(plan.shard_count) if job.done(n) is None]
  with progress.counting("converted", int(sizes[todo].sum())) as advance:
    conversion_workers.run(job, todo, workers=workers, advance=advance)


def _order(
  site: targets.Site,
  target: targets.Target,
  plan: set_header.ConversionPlan,
) -> np.ndarray | None:
  """Returns the places of the images in the source, a map of a file.

  NumPy may draw another order in another version: it is drawn once.
  """
  path = site.scratch / _ORDER
  if not path.is_file():
    order = _new_order(site.files.labels, target, plan)
    if order is None:
      return None
    with whole_files.replacing(path) as draft, open(draft, "wb") as file:
      np.save(file, order)
  return np.load(path, mmap_mode="r")


def _new_order(
  labels: np.ndarray,
  target: targets.Target,
  plan: set_header.ConversionPlan,
) -> np.ndarray | None:
  if plan.shuffle is not None:
    order = np.arange(plan.images, dtype=np.uint32)
    np.random.default_rng(plan.shuffle).shuffle(order)
    return order
  if target.whole_identities and np.any(labels[1:] < labels[:-1]):
    return np.argsort(labels, kind="stable").astype(np.uint32)
  return None


def _cuts(
  labels: np.ndarray,
  order: np.ndarray | None,
  plan: set_header.ConversionPlan,
  target: targets.Target,
) -> list[int]:
  """Returns where each shard begins, and where the last ends."""
  count, parts = plan.images, plan.shard_count
  cuts = np.arange(parts + 1, dtype=np.int64) * count // parts
  if target.whole_identities:
    labels = labels if order is None else labels[order]
    begins = np.append(np.flatnonzero(labels[1:] != labels[:-1]) + 1, count)
    inner = np.searchsorted(begins, cuts[1:-1])
    cuts[1:-1] = begins[inner]
  return cuts.tolist()
