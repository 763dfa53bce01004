"""How fast nets run: forward and training step, beside PyTorch.

  python scripts/bench_backbone.py --nets iresnet18 mobilefacenet \
    --out benchmarks/backbone.json

For each net an evaluation and a training step (forward, backward, SGD with
momentum and weight decay; the loss is a random projection of the embeddings)
take turns with the same net written in plain PyTorch, in a process of its own
that sleeps while others work. --torch none leaves PyTorch out; --dtype bfloat16
takes autocast and channels-last there, which belongs on an accelerator.

Rates count 2 operations a multiply-add, and three forward passes a training
step; the share is of the rate of the best square matmul of the same run.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

DIM = 512
SQUARE = 2048  # rows of the matrices that set the measure
LEARNING_RATE = 1e-4  # too small for training to change what a step costs
PASSES = {"forward": 1, "train": 3}  # as many forward passes a step costs
Work = Callable[[], object]


def data(args: argparse.Namespace, size: tuple[int, int]):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (args.batch, *size, 3), np.uint8)
  return images, rng.normal(size=(args.batch, DIM)).astype(np.float32)


def image_size(net: str, args: argparse.Namespace) -> tuple[int, int]:
  if args.image_size:
    return tuple(args.image_size)
  return (112, 96) if net.startswith("sphereface") else (112, 112)


def in_jax(net: str, args: argparse.Namespace) -> dict[str, Work]:
  """What is measured, as functions that return when it is done."""
  import jax
  import jax.numpy as jnp
  import optax

  from facejax.models import functional
  from facejax.runtime import jit
  from facejax.training import optim

  size = image_size(net, args)
  backbone = functional.build(
    net, embedding_dim=DIM, image_size=size, dtype=jnp.dtype(args.dtype)
  )
  constant = optim.make_schedule(
    "constant", learning_rate=LEARNING_RATE, total_steps=1
  )
  tx = optim.sgd(constant, momentum=0.9, weight_decay=5e-4)
  images, weight = map(jnp.asarray, data(args, size))

  @jit.jit
  def forward(params, stats):
    return backbone.apply(params, stats, images, train=False)[0]

  def step(params, stats, opt_state):
    def loss(params):
      x, new = backbone.apply(params, stats, images, train=True)
      return (x * weight).mean(), new

    gradient, new_stats = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), new_stats, opt_state

  step = jit.jit(step, donate_argnums=(0, 1, 2))
  params, stats = jax.jit(backbone.init)(jax.random.key(0))
  state = jax.tree.map(jnp.copy, (params, stats, tx.init(params)))
  square = jnp.ones((SQUARE, SQUARE), jnp.dtype(args.dtype))
  product = jax.jit(lambda a: a @ a)

  def train():
    nonlocal state
    state = step(*state)
    return jax.block_until_ready(state)

  return {
    "forward": lambda: forward(params, stats).block_until_ready(),
    "train": train,
    "matmul": lambda: product(square).block_until_ready(),
  }


def in_torch(net: str, args: argparse.Namespace) -> dict[str, Work]:
  """The same of the twin that the tests compare with."""
  import torch

  tests = pathlib.Path(__file__).resolve().parents[1] / "tests"
  sys.path.insert(0, str(tests))
  from helpers import torch_nets

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  size = image_size(net, args)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  # Looks for the quickest kernels of these shapes, as the field trains.
  torch.backends.cudnn.benchmark = True
  twin = torch_nets.NETS[net](dim=DIM, image_size=size).to(device)
  pixels, weight = (torch.from_numpy(a).to(device) for a in data(args, size))
  x = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5
  if args.channels_last or args.dtype == "bfloat16":
    twin = twin.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
  cast = torch.autocast(
    device, dtype=torch.bfloat16, enabled=args.dtype == "bfloat16"
  )
  tx = torch.optim.SGD(
    twin.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4
  )

  def done():
    if device == "cuda":
      torch.cuda.synchronize()

  def forward():
    with torch.no_grad(), cast:
      twin.eval()(x)
    done()

  def train():
    tx.zero_grad()
    with cast:
      loss = (twin.train()(x).float() * weight).mean()
    loss.backward()
    tx.step()
    done()

  return {"forward": forward, "train": train}


def worker(net: str, args: argparse.Namespace, pipe) -> None:
  """A process that does what it is told to, and answers with seconds."""
  works = in_torch(net, args)
  while (order := pipe.recv()) is not None:
    name, repeats = order
    pipe.send(seconds(works[name], repeats))


def seconds(work: Work, repeats: int) -> float:
  """Of one of many in a row; the first of a turn is not counted.

  It finds the memory of the process gone back to the system, which a training
  run does not.
  """
  work()
  start = time.perf_counter()
  for _ in range(repeats):
    work()
  return (time.perf_counter() - start) / repeats


def measure(net: str, args: argparse.Namespace) -> dict[str, list[float]]:
  """Seconds of each kind of work, by round."""
  works = in_jax(net, args)
  clocks: dict[str, Callable[[int], float]] = {
    f"jax {name}": lambda n, work=work: seconds(work, n)
    for name, work in works.items()
    if name in (*args.works, "matmul")
  }
  process = pipe = None
  if args.torch == "all":
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=worker, args=(net, args, theirs))
    process.start()
    for name in args.works:
      clocks[f"torch {name}"] = lambda n, name=name: ask(pipe, name, n)
  repeats = {}
  for name, clock in clocks.items():
    clock(2)  # compiles, fills caches
    repeats[name] = min(max(1, round(args.turn / clock(1))), 100)
  found = {name: [] for name in clocks}
  for _ in range(args.rounds):
    for name, clock in clocks.items():
      found[name].append(clock(repeats[name]))
  if process is not None and pipe is not None:
    pipe.send(None)
    process.join()
  return found


def ask(pipe, name: str, repeats: int) -> float:
  pipe.send((name, repeats))
  return pipe.recv()


def report(
  net: str, found: dict[str, list[float]], args: argparse.Namespace
) -> list[str]:
  """Images a second, share of the matmul's rate, speed over PyTorch's."""
  from facejax.models import functional

  size = image_size(net, args)
  adds = functional.build(net, embedding_dim=DIM, image_size=size).multiply_adds
  peak = 2 * SQUARE**3 / min(found["jax matmul"])
  lines = []
  for name in args.works:
    passes = PASSES[name]
    times = found[f"jax {name}"]
    rate = args.batch / statistics.median(times)
    share = 2 * adds * passes * rate / peak
    line = f"{net:16} {name:8} {rate:10,.1f} {share:7.0%}"
    theirs = found.get(f"torch {name}")
    if theirs:
      pairs = zip(theirs, times, strict=True)
      ratio = statistics.median(torch / ours for torch, ours in pairs)
      line += f" {args.batch / statistics.median(theirs):12,.1f} {ratio:10.2f}"
    lines.append(line)
  return lines


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  nets = ["iresnet18", "iresnet50", "sphereface20", "mobilefacenet", "vit_t"]
  add("--nets", nargs="+", default=nets, help=f"default {' '.join(nets)}")
  add("--batch", type=int, default=16, help="images a step (default 16)")
  add("--image-size", nargs=2, type=int, help="default as the nets are used")
  add("--works", nargs="+", choices=PASSES, default=[*PASSES], help="of a net")
  add("--rounds", type=int, default=5, help="turns of each (default 5)")
  add("--turn", type=float, default=3.0, help="seconds of a turn (default 3)")
  add("--dtype", choices=("float32", "bfloat16"), default="float32")
  add("--torch", choices=("all", "none"), default="all")
  add("--channels-last", action="store_true", help="of PyTorch's tensors")
  add("--out", type=pathlib.Path, help="JSON file for the figures")
  return parser.parse_args()


def main() -> None:
  args = parse()
  import jax

  figures: dict[str, Any] = {}
  print(f"{'net':16} {'':8} {'images/s':>10} {'share':>7}", end="")
  print(f" {'PyTorch':>12} {'over it':>10}" if args.torch == "all" else "")
  for net in args.nets:
    figures[net] = measure(net, args)
    print("\n".join(report(net, figures[net], args)), flush=True)
  if args.out:
    about = {
      "command": "python scripts/bench_backbone.py " + " ".join(sys.argv[1:]),
      "device": jax.devices()[0].device_kind,
      "cores": len(os.sched_getaffinity(0)),
      "machine": platform.machine(),
      "jax": jax.__version__,
    }
    args.out.write_text(json.dumps({**about, "seconds": figures}, indent=1))


if __name__ == "__main__":
  main()
