"""What mining triplets costs, beside the training step that needs them.

  python scripts/bench_mining.py --out benchmarks/mining.json

Time: the loss and its gradient for a batch of embeddings on one device, by
rule, and its share of a step of a trunk (forward, backward, update) on as many
images. Both are measured in turns; the quickest turn counts, since what else
the machine does only adds to it. Memory: what the compiled program holds on a
device beside its arguments and results, at another size on several devices
(simulated on the CPU if there are fewer).
"""

import argparse
import json
import pathlib
import time
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facejax.head import memory as memory_lib
from facejax.head import triplet as mined
from facejax.losses import anchors, triplet
from facejax.models import functional
from facejax.runtime import mesh as mesh_lib

RULES = get_args(triplet.Mining)
MIB = 2**20


def mining_step(rule: triplet.Mining, mesh: jax.sharding.Mesh):
  """The jitted (embeddings, labels) -> loss, statistics and gradient."""

  def loss(x, labels):
    values, statistics = mined.triplet(
      x, labels, mesh=mesh, margin=0.2, mining=rule, key=jax.random.key(0)
    )
    return anchors.mean(values), statistics

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def batch(people: int, images: int, dim: int):
  """Embeddings like those of a net halfway through: mates near each other."""
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(people, dtype=np.int32), images)
  centers = rng.normal(size=(people, dim))
  x = centers[labels] + rng.normal(size=(labels.size, dim))
  return jnp.asarray(x, jnp.float32), jnp.asarray(labels)


def trunk_step(args: argparse.Namespace, size: int):
  """The jitted step (state, images) -> state, and both of them."""
  net = functional.build(
    args.net, embedding_dim=args.dim, image_size=(args.image, args.image)
  )
  params, stats = jax.jit(net.init)(jax.random.key(0))
  tx = optax.sgd(1e-4, momentum=0.9)
  rng = np.random.default_rng(0)
  shape = (size, args.image, args.image, 3)
  images = jnp.asarray(rng.integers(0, 256, shape, np.uint8))

  def step(state, images):
    params, stats, optimizer = state

    def loss(params):
      x, new = net.apply(
        params, stats, images, train=True, dropout_key=jax.random.key(0)
      )
      return x.mean(), new

    gradient, stats = jax.grad(loss, has_aux=True)(params)
    updates, optimizer = tx.update(gradient, optimizer, params)
    return optax.apply_updates(params, updates), stats, optimizer

  state = params, stats, tx.init(params)
  return jax.jit(step, donate_argnums=0), state, images


def seconds(function, *arguments) -> tuple[dict[str, float], Any]:
  """Of one call, by the wall and of all cores; and its result."""
  wall, cpu = time.perf_counter(), time.process_time()
  result = jax.block_until_ready(function(*arguments))
  wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
  return {"wall": wall, "cpu": cpu}, result


def quickest(turns: list[dict[str, float]]) -> dict[str, float]:
  """The least of each figure."""
  return {name: min(turn[name] for turn in turns) for name in turns[0]}


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Seconds by rule and of the trunk's step."""
  mesh = mesh_lib.make_mesh(devices=1)
  x, labels = batch(args.people, args.images, args.dim)
  steps = {rule: mining_step(rule, mesh) for rule in RULES}
  rules: dict[str, list] = {rule: [] for rule in RULES}
  trunk: list[dict[str, float]] = []
  found = {}
  for rule, step in steps.items():
    (_, statistics), _ = jax.block_until_ready(step(x, labels))
    found[rule] = {k: float(v) for k, v in statistics._asdict().items()}
  step, state, images = trunk_step(args, labels.size)
  state = jax.block_until_ready(step(state, images))
  for _ in range(args.repeats):
    spent, state = seconds(step, state, images)
    trunk.append(spent)
    for rule, mine in steps.items():
      rules[rule].append(seconds(mine, x, labels)[0])
  return {
    "trunk": quickest(trunk),
    "rules": {rule: {**quickest(rules[rule]), **found[rule]} for rule in RULES},
  }


def temporaries(args: argparse.Namespace, mesh: jax.sharding.Mesh):
  """Bytes on each device by rule, from the compiled program."""
  split = mesh_lib.sharding(mesh, mesh_lib.BATCH)
  size, dim = args.large_batch, args.large_dim
  x = jax.ShapeDtypeStruct((size, dim), jnp.float32, sharding=split)
  labels = jax.ShapeDtypeStruct((size,), jnp.int32, sharding=split)

  def held(rule):
    compiled = mining_step(rule, mesh).lower(x, labels).compile()
    memory: Any = compiled.memory_analysis()
    return memory.temp_size_in_bytes

  return {rule: held(rule) for rule in RULES}


def table(report: dict[str, Any]) -> str:
  """The report as Markdown."""
  of, time = report["settings"], report["time"]
  size = of["people"] * of["images"]
  trunk = time["trunk"]
  lines = [
    f"A step of {of['net']} on {size:,} images of {of['image']} x"
    f" {of['image']}: {trunk['wall']:.2f} s ({trunk['cpu']:.2f} s of all"
    f" cores), {report['device']}.",
    "",
    f"| mining | {size:,} x {of['dim']}, ms | ms of all cores | share of the"
    f" step | {of['large_batch']:,} x {of['large_dim']} on"
    f" {of['devices']} devices, MiB each |",
    "|---|---|---|---|---|",
  ]
  for rule, row in time["rules"].items():
    lines.append(
      f"| {rule} | {1e3 * row['wall']:.0f} | {1e3 * row['cpu']:.0f} |"
      f" {row['wall'] / trunk['wall']:.3f} |"
      f" {report['temporaries'][rule] / MIB:.0f} |"
    )
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--people", type=int, default=45)
  parser.add_argument("--images", type=int, default=40, help="of each")
  parser.add_argument("--dim", type=int, default=128)
  parser.add_argument(
    "--net", choices=functional.NETS, default="iresnet10_slim"
  )
  parser.add_argument("--image", type=int, default=48, help="side in pixels")
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--large-batch", type=int, default=16_384)
  parser.add_argument("--large-dim", type=int, default=512)
  parser.add_argument("--devices", type=int, default=8, help="for the memory")
  parser.add_argument("--out", type=pathlib.Path, help="JSON of all figures")
  args = parser.parse_args()
  # First: it decides how many devices there are.
  large = memory_lib.make_mesh(devices=args.devices)
  settings = {k: v for k, v in vars(args).items() if k != "out"}
  report = {
    "settings": settings,
    "jax": jax.__version__,
    "device": jax.devices()[0].device_kind,
    "temporaries": temporaries(args, large),
    "time": measure(args),
  }
  print(table(report))
  if args.out:
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
  main()
