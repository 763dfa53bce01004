"""How fast images are read: of each format, and beside what is possible.

  python scripts/bench_data.py --path faces --out benchmarks/data.json --torch

PATH is a folder of identity folders. Its first images are converted to every
format in a temporary folder, and all ways to read them take turns. One core
does the work, in one process, except where workers are named.

  decoder       simplejpeg alone on bytes in memory: the limit
  read          the bytes of an image, by format
  source        read, decoded and brought to size
  pipeline      batches: shuffled and stacked; by format and workers
  mirrored      the same, with every other image mirrored
  pil           a plain loop: open, convert, mirror, stack, with Pillow
  torch         PyTorch's DataLoader with the same loop as its transform, which
                leaves float32 normalised tensors, as its users have it
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from facejax.data import convert, encoded, formats, pipeline, tfds_builder
from facejax.data.augment import augment

CHANGES = {"pipeline": None, "mirrored": augment.Augment(flip=True)}
SKIPPED = 4  # batches before the clock starts: workers have filled their queues
CORES = sorted(os.sched_getaffinity(0))


def written(path: str, folder: pathlib.Path, people: int) -> dict[str, str]:
  """The first people of a set in every format; returns where each lies."""
  names = formats.open_images(path, "folder").class_names[:people]
  (folder / "names.txt").write_text("\n".join(names))
  places = {form: str(folder / form) for form in formats.FORMATS}
  chosen = ["--identities", str(folder / "names.txt")]
  convert.main([path, places["folder"], "--to", "folder", *chosen])
  for form in ("record_io", "array_record"):
    convert.main([places["folder"], places[form], "--to", form])
  places["tfds"] = tfds_builder.build(
    places["folder"], folder / "tfds", name="faces"
  )
  return places


def on_cores(cores: list[int]) -> None:
  """Where this process, and those that it starts, may run."""
  os.sched_setaffinity(0, cores)


def clock(work: Callable[[], int]) -> float:
  """Images a second."""
  start = time.perf_counter()
  count = work()
  return count / (time.perf_counter() - start)


def decode_all(blobs: list[bytes]) -> int:
  for blob in blobs:
    simplejpeg.decode_jpeg(blob, colorspace="RGB")
  return len(blobs)


def read_all(files: encoded.EncodedImages) -> int:
  for index in range(len(files)):
    files.encoded(index)
  return len(files)


def source_all(source: encoded.Decoded) -> int:
  for index in range(len(source)):
    source[index]
  return len(source)


def stream(batches: Iterator[Any], count: int, batch: int) -> float:
  """Images a second of batches, once their workers are at work."""
  for _ in range(SKIPPED):
    next(batches)
  return clock(lambda: sum(len(next(batches)) and batch for _ in range(count)))


def pipeline_rate(
  source, change, *, workers: int, count: int, batch: int
) -> float:
  batches = pipeline.batches(
    source,
    batch_size=batch,
    seed=0,
    augment=change,
    threads=0,
    workers=workers,
  )
  try:
    return stream(batches, count, batch)
  finally:
    batches.close()


def open_with_pil(path: str) -> np.ndarray:
  """The field's transform up to the array: open, convert, mirror."""
  with Image.open(path) as file:
    image = file.convert("RGB")
  if random.random() < 0.5:
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  return np.asarray(image)


def pil_all(paths: list[str], batch: int) -> int:
  for first in range(0, len(paths), batch):
    np.stack([open_with_pil(path) for path in paths[first : first + batch]])
  return len(paths)


class TorchImages:
  """A map-style data set: float32 [3, height, width] in [-1, 1], label."""

  def __init__(self, paths: list[str]):
    self.paths = paths

  def __len__(self) -> int:
    return len(self.paths)

  def __getitem__(self, index: int):
    import torch

    image = torch.from_numpy(open_with_pil(self.paths[index]).copy())
    image = image.permute(2, 0, 1).contiguous().to(torch.float32).div_(255)
    return image.sub_(0.5).div_(0.5), index


def torch_rate(paths, *, workers: int, count: int, batch: int) -> float:
  import torch

  torch.set_num_threads(1)
  loader = torch.utils.data.DataLoader(
    TorchImages(paths),  # pyright: ignore[reportArgumentType]
    batch_size=batch,
    shuffle=True,
    num_workers=workers,
    drop_last=True,
    persistent_workers=workers > 0,
  )

  def forever():
    while True:
      yield from loader

  return stream(forever(), count, batch)


def ways(places: dict[str, str], args: argparse.Namespace):
  """Name -> a function that returns images a second."""
  found: dict[str, Callable[[], float]] = {}
  size = (args.size, args.size)
  for form, path in places.items():
    files = formats.open_images(path, form)  # pyright: ignore[reportArgumentType]
    source = encoded.Decoded(files, image_size=size)
    if form == "folder":
      blobs = [files.encoded(k) for k in range(len(files))]
      paths = [files.path(k) for k in range(len(files))]  # pyright: ignore[reportAttributeAccessIssue]
      found["decoder"] = functools.partial(
        clock, functools.partial(decode_all, blobs)
      )
      found["pil"] = functools.partial(
        clock, functools.partial(pil_all, paths, args.batch)
      )
    found[f"read {form}"] = functools.partial(
      clock, functools.partial(read_all, files)
    )
    found[f"source {form}"] = functools.partial(
      clock, functools.partial(source_all, source)
    )
    count = max(1, len(files) // args.batch)
    shared = {"count": count, "batch": args.batch}
    for workers in args.workers:
      for name, change in CHANGES.items():
        found[f"{name} {form} {workers}"] = functools.partial(
          pipeline_rate, source, change, workers=workers, **shared
        )
  for workers in args.workers if args.torch else ():
    found[f"torch {workers}"] = functools.partial(
      torch_rate, paths, workers=workers, **shared
    )
  return found


def report(rates: dict[str, list[float]]) -> list[str]:
  """Medians, and ratios of times to the decoder's and to PyTorch's."""
  lines = [f"{'':26}{'images/s':>10}  time over decoder  speed over torch"]
  for name, values in rates.items():
    over = statistics.median(
      d / v for d, v in zip(rates["decoder"], values, strict=True)
    )
    line = f"{name:26}{statistics.median(values):10,.0f}  {over:17.2f}"
    twin = rates.get(f"torch {name.split()[-1]}")
    if name.startswith("mirrored") and twin:
      gain = statistics.median(v / t for v, t in zip(values, twin, strict=True))
      line += f"  {gain:16.1f}"
    lines.append(line)
  return lines


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--path", required=True, help="folder of identity folders, of JPEGs")
  add("--people", type=int, default=300, help="how many of them (default 300)")
  add("--size", type=int, default=112, help="pixels per side (default 112)")
  add("--batch", type=int, default=128, help="images a batch (default 128)")
  add("--rounds", type=int, default=5, help="turns of each way (default 5)")
  add("--workers", type=int, nargs="*", default=[0, 1, 2])
  add("--torch", action="store_true", help="PyTorch as well (extra bench)")
  add("--out", type=pathlib.Path, help="JSON file for the figures")
  return parser.parse_args()


def main() -> None:
  args = parse()
  rates: dict[str, list[float]] = {}
  with tempfile.TemporaryDirectory() as folder:
    places = written(args.path, pathlib.Path(folder), args.people)
    found = ways(places, args)
    for _ in range(args.rounds):
      for name, rate in found.items():
        alone = not name[-1].isdigit() or name.endswith(" 0")
        on_cores(CORES[:1] if alone else CORES)
        rates.setdefault(name, []).append(rate())
        print(f"{name}: {rates[name][-1]:,.0f} images/s", flush=True)
  print("\n".join(["", *report(rates)]))
  if args.out:
    about = {
      "command": "python scripts/bench_data.py "
      + " ".join(f"--{k} {v}" for k, v in vars(args).items() if k != "path"),
      "cores": len(CORES),
      "machine": platform.processor() or platform.machine(),
      "python": platform.python_version(),
    }
    args.out.write_text(json.dumps({**about, "images_per_s": rates}, indent=1))


if __name__ == "__main__":
  multiprocessing.freeze_support()
  main()
