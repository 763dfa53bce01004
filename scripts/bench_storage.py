"""Galleries in int8 and bfloat16: time beside one pass, and what they find.

  python scripts/bench_storage.py --out benchmarks/search.json
      a million made faces x 512: the search, and one pass over its bytes, in turns
  python scripts/bench_storage.py --faces 10000000 --storage int8
  python scripts/bench_storage.py --embeddings lfw.npz --out benchmarks/search.json
      of photos: top-k and TAR beside float32's

One pass is the bitwise or of all bytes that are searched, by as many threads as
there are cores, through the same mapping of the file: reading and nothing else.
The least of the turns counts, since what else the machine does only adds to it;
beside it stands the median of the turns' ratios.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import bench_search
import jax
import numpy as np

from facejax.runtime import host_memory, mesh, unit_vectors
from facejax.vectors import embeddings, nearest, storage

ROWS = 2**16
FAR = (1e-4, 1e-5, 1e-6)
# Of each photo's nearest, whose pairs are looked at: far beyond these FARs.
PAIRS = 600
SHORT = [kind for kind in storage.KINDS if kind != "float32"]


def write(folder: pathlib.Path, faces: int, dim: int, kind: str) -> None:
  """Random directions, in float32 and as they are stored."""
  generator = np.random.default_rng(0)

  def empty(name, dtype, shape):
    return np.lib.format.open_memmap(folder / name, "w+", dtype, shape)

  vectors = empty("vectors.npy", np.float32, (faces, dim))
  dtype = np.int8 if kind == "int8" else np.uint16
  codes = empty("codes.npy", dtype, (faces, dim))
  scales = empty("scales.npy", np.float32, (faces,))
  for start in range(0, faces, ROWS):
    rows = slice(start, min(start + ROWS, faces))
    block = generator.standard_normal((rows.stop - start, dim), np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
    vectors[rows] = block
    short, scale = storage.encode(block, kind)
    codes[rows] = short.view(dtype)
    scales[rows] = 1 if scale is None else scale


def one_pass(codes: np.ndarray) -> None:
  """Reads all bytes, and does next to nothing with them."""
  words = codes.reshape(-1).view(np.int64)
  parts = np.array_split(words, os.cpu_count() or 1)
  with concurrent.futures.ThreadPoolExecutor(len(parts)) as threads:
    list(threads.map(np.bitwise_or.reduce, parts))


def in_turns(
  turns: int, functions: dict[str, Callable[[], Any]]
) -> dict[str, np.ndarray]:
  """Seconds of each, turn by turn, after one to warm up."""
  for function in functions.values():
    function()
  taken: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(turns):
    for name, function in functions.items():
      taken[name].append(bench_search.seconds(function)[0])
  return {name: np.asarray(values) for name, values in taken.items()}


def times(args: argparse.Namespace, kind: str) -> dict[str, Any]:
  """Of one kind of storage, by number of queries."""
  one = mesh.make_mesh(devices=1)
  with tempfile.TemporaryDirectory(dir=args.scratch) as name:
    folder = pathlib.Path(name)
    write(folder, args.faces, args.dim, kind)
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    scales = None
    if kind == "int8":
      scales = np.load(folder / "scales.npy", mmap_mode="r")
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    if kind == "bfloat16":
      codes = codes.view(jax.numpy.bfloat16)
    search = storage.Reranked(codes, scales, vectors, mesh=one)
    asked = bench_search.random_units(max(args.queries), args.dim, seed=1)
    functions = {"one_pass": lambda: one_pass(codes)} | {
      str(n): lambda n=n: search(asked[:n], args.k) for n in args.queries
    }
    taken = in_turns(args.turns, functions)
    passes = taken.pop("one_pass")
    rows = [
      {
        "queries": int(n),
        "seconds": round(float(t.min()), 4),
        "over_one_pass": round(float(t.min() / passes.min()), 2),
        "median_over_one_pass": round(float(np.median(t / passes)), 2),
      }
      for n, t in taken.items()
    ]
    some = asked[: args.compared]
    plain = nearest.Nearest(vectors, mesh=one)(some, args.k)
    found = search(some, args.k)
    return {
      "faces": args.faces,
      "dim": args.dim,
      "k": args.k,
      "mib_searched": round(codes.nbytes / bench_search.MIB),
      "one_pass_seconds": round(float(passes.min()), 4),
      "times": rows,
      "queries_compared": len(some),
      "same_rows_as_float32": same(found, plain),
    }


def same(found: nearest.Neighbours, plain: nearest.Neighbours) -> float:
  """Share of queries whose rows are all the same, but for equal scores."""
  alike = (found.rows == plain.rows) | np.isclose(
    found.scores, plain.scores, rtol=0, atol=2e-7
  )
  return round(float(alike.all(axis=1).mean()), 5)


def photos(args: argparse.Namespace, kind: str) -> dict[str, Any]:
  """Every photo asked for among all, and pairs of all with all."""
  known = embeddings.read(args.embeddings)
  vectors = unit_vectors.unit(np.asarray(known.vectors))
  codes, scales = storage.encode(vectors, kind)
  short = storage.decode(codes, scales)
  one = mesh.make_mesh(devices=1)
  plain = nearest.Nearest(vectors, mesh=one)
  search = storage.Reranked(codes, scales, vectors, mesh=one)
  alone = nearest.Nearest(short, mesh=one)
  best, found, first = (f(vectors, args.k) for f in (plain, search, alone))
  return {
    "faces": len(known),
    "queries": len(known),
    "dim": vectors.shape[1],
    "k": args.k,
    "same_rows_as_float32": same(found, best),
    "same_rows_not_compared_again": same(first, best),
    "tar_percent_at_far": tars(
      {
        "float32": plain(vectors, PAIRS),
        kind: search(vectors, PAIRS),
        f"{kind}, not compared again": alone(vectors, PAIRS),
      },
      known.labels,
    ),
  }


def tars(found: dict[str, nearest.Neighbours], labels) -> dict[str, Any]:
  """TAR in percent at each FAR, of all pairs, those not found scored lowest."""
  count, mates = len(labels) * (len(labels) - 1), 0
  for size in np.unique(labels, return_counts=True)[1].tolist():
    mates += size * (size - 1)
  table: dict[str, Any] = {str(far): {} for far in FAR}
  for name, near in found.items():
    others = near.rows != np.arange(len(labels))[:, None]
    alike = labels[near.rows] == labels[:, None]
    strangers = -np.sort(-near.scores[others & ~alike])
    for far in FAR:
      threshold = strangers[int(far * (count - mates))]
      taken = (near.scores[others & alike] > threshold).sum()
      table[str(far)][name] = round(100 * float(taken) / mates, 4)
  return table


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  add = parser.add_argument
  add("--faces", type=int, default=1_000_000)
  add("--dim", type=int, default=512)
  add("--k", type=int, default=10)
  add("--queries", type=int, nargs="+", default=[1, 4, 16])
  add("--compared", type=int, default=64, help="queries compared to float32")
  add("--turns", type=int, default=9)
  add("--storage", nargs="+", choices=SHORT, default=SHORT)
  add("--scratch", help="folder for temporary files, 6 KiB a face")
  add("--embeddings", help="file of photos' embeddings: compare these instead")
  add("--out", type=pathlib.Path, help="JSON to add the figures to")
  args = parser.parse_args()
  host_memory.keep_freed_memory()
  figures = photos if args.embeddings else times
  report = {}
  if args.out and args.out.exists():
    report = json.loads(args.out.read_text())
  for kind in args.storage:
    what = "photos" if args.embeddings else f"{args.faces:,} faces"
    about = {"cpu": bench_search.cpu(), "jax": jax.__version__}
    key = f"storage {kind}, {what}"
    report[key] = about | figures(args, kind)
    print(key, json.dumps(report[key], indent=2), flush=True)
  if args.out:
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
  main()
