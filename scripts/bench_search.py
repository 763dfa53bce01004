"""Exact search against the matmul floor, and LFW among a million strangers.

  python scripts/bench_search.py --out benchmarks/search.json
      times: the search, the matmul alone and faiss in turns, on one machine
  python scripts/bench_search.py --run runs/cosface-lfw --lfw lfw_112
      photos asked for that are not among the known ones of 5,749 people and a
      million distractors

The floor is the same product of queries and vectors, block by block, of which
only the sum of each block is kept. The least of the turns counts, since what
else the machine does only adds to it. Distractors are random directions, and,
harder, random vectors with the mean and covariance of the photos.
"""

import argparse
import json
import pathlib
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from facejax.data import image_sets
from facejax.data.pairs import lfw
from facejax.runs import embedder
from facejax.runtime import mesh, progress, unit_vectors
from facejax.vectors import answer_texts, embeddings, gallery, nearest

MIB = 2**20
ROWS = 2**16


def random_units(count: int, dim: int, *, seed: int) -> np.ndarray:
  """Random directions, float32 [count, dim], made block by block."""
  generator = np.random.default_rng(seed)
  vectors = np.empty((count, dim), np.float32)
  for start in range(0, count, ROWS):
    block = vectors[start : start + ROWS]
    block[:] = generator.standard_normal(block.shape, np.float32)
    block /= np.linalg.norm(block, axis=1, keepdims=True)
  return vectors


def matmul_floor(
  vectors: np.ndarray, block_rows: Callable[[int], int]
) -> Callable[[np.ndarray], None]:
  """The product with all vectors, block by block, and nothing else."""

  @jax.jit
  def product(queries, block):
    return jax.lax.dot_general(
      queries,
      block,
      (((1,), (1,)), ((), ())),
      precision=jax.lax.Precision.HIGHEST,
    )

  def run(queries):
    placed = jax.device_put(queries)
    rows = block_rows(len(queries))
    for start in range(0, len(vectors), rows):
      block = jax.device_put(vectors[start : start + rows])
      product(placed, block).block_until_ready()

  return run


def seconds(function: Callable[..., Any], *arguments) -> tuple[float, Any]:
  started = time.perf_counter()
  result = function(*arguments)
  return time.perf_counter() - started, result


def quickest(turns: int, functions: dict[str, Callable[[], Any]]):
  """The least time of each, measured in turns after one to warm up."""
  for function in functions.values():
    function()
  taken: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(turns):
    for name, function in functions.items():
      taken[name].append(seconds(function)[0])
  return {name: min(values) for name, values in taken.items()}


def own_memory() -> int:
  """Bytes of this process that are no file's: what a search adds to it."""
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  found = next(line for line in lines if line.startswith("RssAnon"))
  return int(found.split()[1]) * 1024


def memory_of(function: Callable[[], Any]) -> int:
  """The most that a call takes beside what there was, in bytes."""
  before, most, ended = own_memory(), 0, threading.Event()

  def watch():
    nonlocal most
    while not ended.wait(0.005):
      most = max(most, own_memory())

  watcher = threading.Thread(target=watch)
  watcher.start()
  function()
  ended.set()
  watcher.join()
  return most - before


def same_as_brute_force(vectors, queries, found: nearest.Neighbours) -> float:
  """The largest difference to the best scores of all, in float64 sorted."""
  k = found.scores.shape[1]
  best = np.full((len(queries), k), -np.inf)
  for start in range(0, len(vectors), ROWS):
    scores = queries.astype(np.float64) @ vectors[start : start + ROWS].T
    both = np.concatenate([best, scores], axis=1)
    best = -np.sort(-np.partition(both, -k, axis=1)[:, -k:], axis=1)
  return float(np.abs(best - found.scores).max())


def bench(args: argparse.Namespace) -> dict[str, Any]:
  """Times by number of queries."""
  with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
    path = pathlib.Path(folder) / "vectors.npy"
    np.save(path, random_units(args.faces, args.dim, seed=0))
    vectors = np.load(path, mmap_mode="r")
    one = mesh.make_mesh(devices=1)
    exact = nearest.Nearest(vectors, mesh=one)
    floor = matmul_floor(vectors, exact.block_rows)
    most = random_units(max(args.queries), args.dim, seed=1)
    held = memory_of(lambda: exact(most, args.k))
    flat = faiss_flat(vectors) if args.faiss else None
    rows = []
    for count in args.queries:
      queries = random_units(count, args.dim, seed=1)
      functions = {
        "search": lambda q=queries: exact(q, args.k),
        "matmul": lambda q=queries: floor(q),
      }
      if flat is not None:
        functions["faiss_flat"] = lambda q=queries: flat.search(q, args.k)
      taken = quickest(args.turns, functions)
      rows.append(
        {
          "queries": count,
          "block_rows": exact.block_rows(count),
          "seconds": {name: round(t, 4) for name, t in taken.items()},
          "search_over_matmul": round(taken["search"] / taken["matmul"], 3),
        }
      )
      print(json.dumps(rows[-1]), flush=True)
    some = random_units(16, args.dim, seed=2)
    return {
      "faces": args.faces,
      "dim": args.dim,
      "k": args.k,
      "times": rows,
      "difference_to_brute_force": same_as_brute_force(
        vectors, some, exact(some, args.k)
      ),
      "mib_beside_the_vectors": round(held / MIB),
      "mib_of_the_vectors": round(vectors.nbytes / MIB),
    }


def faiss_flat(vectors: np.ndarray):
  import faiss

  index = faiss.IndexFlatIP(vectors.shape[1])
  for start in range(0, len(vectors), ROWS):
    index.add(np.ascontiguousarray(vectors[start : start + ROWS]))
  return index


def photos(args: argparse.Namespace) -> embeddings.Embeddings:
  """Embeddings of all of LFW, kept beside the run for the next time."""
  kept = pathlib.Path(args.embeddings or f"{args.run}/lfw.npz")
  if not kept.exists():
    from facejax.runs import embed_job

    files = image_sets.open_set(args.lfw)
    model = embedder.load(args.run)
    with progress.counting("embedded", len(files)) as advance:
      embed_job.run(embed_job.EmbedJob(model, files, kept), advance)
  return embeddings.read(kept)


def identify(args: argparse.Namespace) -> dict[str, Any]:
  """Rank-1 of the photos that are not in the gallery."""
  found = photos(args)
  vectors = unit_vectors.unit(found.vectors)
  kinds = {
    "none": lambda: None,
    "random directions": lambda: random_units(
      args.faces, vectors.shape[1], seed=3
    ),
    "like the photos": lambda: alike(vectors, args.faces, seed=3),
  }
  results = {
    name: asked_for(args, found, vectors, make())
    for name, make in kinds.items()
  }
  about = found.about["card"]
  return {
    "net": {
      name: about[name]
      for name in ("net", "embedding_dim", "image_size", "loss")
    },
    "people": len(np.unique(found.labels)),
    "distractors": results,
  }


def asked_for(args, found, vectors, others) -> dict[str, Any]:
  """What is found among the known people and others, by who is known."""
  results = {}
  for name, known in held_out(found.labels).items():
    rest = np.setdiff1d(np.arange(len(found)), known)
    seen = np.isin(found.labels[rest], trained_on(args.run, found.names))
    asked = part(found, vectors, rest)
    sets = [part(found, vectors, known)]
    if others is not None:
      sets.append(distractors(others))
    with tempfile.TemporaryDirectory(dir=args.scratch) as folder:
      made = gallery.build(pathlib.Path(folder) / "known", sets)
      near = made.search(asked.vectors, 1)
      answers = made.answers(near)
    results[name] = {
      "faces": len(made.known),
      "queries": len(rest),
      "of_people_not_trained_on": int((~seen).sum()),
      "rank_1": share(made, asked, answers, slice(None)),
      "rank_1_of_people_not_trained_on": share(made, asked, answers, ~seen),
      "a_distractor_was_nearest": round(
        float((near.rows[:, 0] >= len(known)).mean()), 4
      ),
    }
    print(name, json.dumps(results[name]), flush=True)
  return results


def held_out(labels: np.ndarray) -> dict[str, np.ndarray]:
  """Which photos are known: the first of each person, or all but the last."""
  _, first, counts = np.unique(labels, return_index=True, return_counts=True)
  last = len(labels) - 1 - np.unique(labels[::-1], return_index=True)[1]
  held = last[counts > 1]
  return {
    "first photo of each": first,
    "all photos but one": np.setdiff1d(np.arange(len(labels)), held),
  }


def part(found, vectors, rows) -> embeddings.Embeddings:
  """Some rows of a file of embeddings."""
  return embeddings.Embeddings(
    vectors[rows], found.paths[rows], found.labels[rows], found.names
  )


def distractors(vectors: np.ndarray) -> embeddings.Embeddings:
  """Vectors of nobody known."""
  count = len(vectors)
  names = np.char.add("distractor ", np.arange(count).astype(str))
  return embeddings.Embeddings(vectors, names, np.full(count, -1, np.int32), [])


def alike(vectors: np.ndarray, count: int, *, seed: int) -> np.ndarray:
  """Random vectors with the mean and covariance of others, of length 1."""
  generator = np.random.default_rng(seed)
  mean = vectors.mean(axis=0)
  values, axes = np.linalg.eigh(np.cov(vectors.T))
  shape = (axes * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
  made = np.empty((count, len(mean)), np.float32)
  for start in range(0, count, ROWS):
    block = made[start : start + ROWS]
    drawn = generator.standard_normal(block.shape, np.float32)
    block[:] = drawn @ shape + mean
    block /= np.linalg.norm(block, axis=1, keepdims=True)
  return made


def trained_on(run: str, names) -> np.ndarray:
  """The labels of the people whom the run was trained on."""
  config = json.loads((pathlib.Path(run) / "config.json").read_text())
  chosen = config.get("data.identities")
  people = set(lfw.read_identities(chosen) if chosen else names)
  return np.asarray([k for k, name in enumerate(names) if name in people])


def share(made, asked, answers, rows) -> float:
  """How many of some queries were named right."""
  some = part(asked, asked.vectors, np.arange(len(asked))[rows])
  right, known = answer_texts.correct(
    made, some, gallery.Answers(*(values[rows] for values in answers))
  )
  return round(right / max(known, 1), 4)


def cpu() -> str:
  lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  names = [line.split(":")[1].strip() for line in lines if "model name" in line]
  return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  add = parser.add_argument
  add("--faces", type=int, default=1_000_000)
  add("--dim", type=int, default=512)
  add("--k", type=int, default=10)
  add("--queries", type=int, nargs="+", default=[1, 64, 1024])
  add("--turns", type=int, default=3)
  add("--faiss", action="store_true", help="measure faiss's flat index too")
  add("--scratch", help="folder for temporary files")
  add("--run", help="folder of a trained net: identify LFW instead")
  add("--lfw", help="folder of LFW's aligned images")
  add("--embeddings", help="where its embeddings are kept (RUN/lfw.npz)")
  add("--out", type=pathlib.Path, help="JSON to add the figures to")
  args = parser.parse_args()
  name = "identification" if args.run else "search"
  figures = identify(args) if args.run else bench(args)
  report = {}
  if args.out and args.out.exists():
    report = json.loads(args.out.read_text())
  about = {
    "cpu": cpu(),
    "device": jax.devices()[0].device_kind,
    "jax": jax.__version__,
  }
  report[name] = about | figures
  print(json.dumps(report[name], indent=2))
  if args.out:
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
  main()
