"""The head's step beside what others offer for it, in turns.

PyTorch's Partial FC at rates 0.1 and 1.0 (`bench_head_torch.py`, a process of
its own), tokamax's linear softmax cross-entropy, and a plain blockwise
cross-entropy of a few lines, the last two with optax's SGD on all of the
gradient; only what can be imported. Every round times each once.

  python scripts/accelerator_rivals.py --out results
"""

import functools
import importlib.util
import statistics
import sys
import time
from typing import Any

import accelerator_common as common
import accelerator_head as heads
import bench_head_forms
import bench_head_plot as report
import bench_head_worker
import jax
import jax.numpy as jnp
import optax

from facejax.training import optim

CLASSES = (1_000_000, 100_000)
SCALE, BLOCK = 64.0, 16_384
PACE = {"rounds": 7, "turn": 0.2}


def blockwise(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """Mean softmax loss of cosines, a block of classes at a time.

  As anybody would write it: a scan over blocks, each recomputed on the way
  back. W is [classes, dim], x [batch, dim].
  """
  x = SCALE * x / jnp.linalg.norm(x, axis=1, keepdims=True)
  block = min(BLOCK, len(w))
  count = -(-len(w) // block)
  padded = jnp.pad(w, ((0, count * block - len(w)), (0, 0)))

  @jax.checkpoint
  def one(carry, part):
    rows, first = part
    units = rows / jnp.maximum(
      jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12
    )
    z = product(x, units.T)
    z = jnp.where(first + jnp.arange(block) < len(w), z, -jnp.inf)
    return jnp.logaddexp(carry, jax.nn.logsumexp(z, axis=1)), None

  start = jnp.full(len(x), -jnp.inf)
  parts = padded.reshape(count, block, -1), block * jnp.arange(count)
  total, _ = jax.lax.scan(one, start, parts)
  own = w[y] / jnp.linalg.norm(w[y], axis=1, keepdims=True)
  return (total - (x * own).sum(axis=1)).mean()


def product(a: jax.Array, b: jax.Array) -> jax.Array:
  """a @ b of bfloat16 operands with float32 sums."""
  narrow = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
  return jnp.matmul(*narrow, preferred_element_type=jnp.float32)


def tokamax_loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """The same by tokamax; W is [dim, classes], as it wants it."""
  import tokamax
  from absl import flags

  flags.FLAGS(sys.argv[:1])  # or it would read the words meant for us
  units = w / jnp.linalg.norm(w, axis=0, keepdims=True)
  x = SCALE * x / jnp.linalg.norm(x, axis=1, keepdims=True)
  on_tpu = jax.default_backend() == "tpu"
  return tokamax.linear_softmax_cross_entropy_loss(
    x.astype(jnp.bfloat16),
    y,
    units.astype(jnp.bfloat16),
    reduction="mean",
    # The other keeps all logits.
    implementation="mosaic_tpu" if on_tpu else "xla",
  )


class Plain:
  """Any loss of (w, x, y) with all of the gradient, and SGD after it."""

  def __init__(self, loss, case: report.Case, *, by_column: bool = False):
    shape = (case.classes, case.dim)[:: -1 if by_column else 1]
    rate = optim.make_schedule("constant", learning_rate=1e-4, total_steps=1)
    tx = optim.sgd(rate, momentum=0.9, weight_decay=5e-4)
    key = jax.random.key(0)
    self._batch = (
      jax.random.normal(key, (case.batch, case.dim)),
      jax.random.randint(key, (case.batch,), 0, case.classes),
    )

    def start():
      w = 0.01 * jax.random.normal(key, shape)
      return w, tx.init(w)

    def step(state, x, y):
      w, opt_state = state
      value, (dw, dx) = jax.value_and_grad(loss, (0, 1))(w, x, y)
      updates, opt_state = tx.update(dw, opt_state, w)
      return (optax.apply_updates(w, updates), opt_state), (value, dx)

    lowered = jax.jit(step, donate_argnums=0).lower(
      jax.eval_shape(start), *self._batch
    )
    self._program, self.about = common.compiled(lowered)
    needed = self.about["arguments"] + self.about["temporaries"]
    if short := report.shortage(needed, jax.devices()[0].memory_stats()):
      raise MemoryError(short)
    self._state = jax.jit(start)()

  def seconds(self, repeats: int) -> float:
    """Of one of many in a row."""
    start, values = time.perf_counter(), None
    for _ in range(repeats):
      self._state, values = self._program(self._state, *self._batch)
    jax.block_until_ready((self._state, values))
    return (time.perf_counter() - start) / repeats


class Ours:
  """facejax's head, by implementation."""

  def __init__(self, name: str, case: report.Case):
    self._held = heads.Case(case)
    self._program, self.about = common.compiled(self._held.lower(name))

  def seconds(self, repeats: int) -> float:
    """Of one of many in a row."""
    start, values = time.perf_counter(), None
    for _ in range(repeats):
      values = self._held.advance(self._program)
    jax.block_until_ready(values)
    return (time.perf_counter() - start) / repeats


class PartialFC:
  """PyTorch's, at one of the rates of its process."""

  RATES = (0.1, 1.0)  # memory is told as its peak so far: the smaller first

  def __init__(self, process: bench_head_worker.Worker, rate: float):
    self._process, self._rate = process, rate
    self.about: dict[str, Any] = {"version": process.about["version"]}

  def seconds(self, repeats: int) -> float:
    """Of one of many in a row."""
    answer = self._process.step(self._rate, repeats)
    if "error" in answer:
      raise MemoryError(answer["error"])
    self.about.setdefault("temporaries", answer["growth"])
    return answer["wall"]


def contenders(case: report.Case, torch: bench_head_worker.Worker | None):
  """Name and maker of each that can run here."""
  for name in ("fused", "sampled"):
    yield (
      f"facejax {bench_head_forms.METHODS[name]}",
      functools.partial(Ours, name, case),
    )
  for rate in PartialFC.RATES if torch else ():
    yield f"PyTorch {rate}", functools.partial(PartialFC, torch, rate)
  yield "blockwise", functools.partial(Plain, blockwise, case)
  if importlib.util.find_spec("tokamax"):
    make = functools.partial(Plain, tokamax_loss, case, by_column=True)
    yield "tokamax", make


def compare(case: report.Case, record: common.Record) -> None:
  """Prepares all that fit, then lets them take turns."""
  pace = PACE | record.pace
  torch, device = None, common.torch_device()
  if device:
    with record.attempt(f"PyTorch {case}"):
      options = ["--case", str(case), "--device", device]
      options += ["--dtype", heads.PRECISION]
      torch = bench_head_worker.Worker(options)
  ready, repeats, times = {}, {}, {}
  for name, make in contenders(case, torch):
    label = f"{name} {case}"
    if record.late(label):
      continue
    with record.attempt(label):
      made = make()
      made.seconds(1)
      repeats[name] = min(max(1, round(pace["turn"] / made.seconds(1))), 200)
      ready[name], times[name] = made, []
  for number in range(1, pace["rounds"] + 1):
    for name in list(ready):
      with record.attempt(f"{name} {case}"):
        times[name].append(ready[name].seconds(repeats[name]))
      if len(times[name]) < number:
        del ready[name]
  for name, made in ready.items():
    ratios = {}
    if "facejax fused" in ready:
      ratio = report.quotient(times[name], times["facejax fused"])
      ratios["over_fused"] = ratio
    record.add(
      f"{name} {case}",
      **case._asdict(),
      seconds=statistics.median(times[name]),
      rounds=times[name],
      **ratios,
      **made.about,
    )
  if torch:
    torch.close()


def main() -> int:
  args = common.arguments(__doc__, "rivals")
  record = common.Record("rivals", args)
  batch, dim = (16, 32) if args.tiny else (heads.BATCH, heads.DIM)
  for classes in (500,) if args.tiny else CLASSES:
    compare(report.Case(classes, batch, dim), record)
  for name in ("torch", "tokamax"):
    if not importlib.util.find_spec(name):
      record.add(name, skipped="not installed")
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
