"""The first steps of the embedded default, with losses beside a CPU's.

The same state and the same generated faces on both, in one process: once with
the products and convolutions as users get them, which accelerators make in less
than float32, and once with all of float32.

Rounding grows from step to step: two CPU runs whose first weights differ by one
rounding end per cents apart after twenty. So float32 is judged by such controls,
step by step: within TIMES what rounding alone has done by then, which is 1e-6 of
the loss at first. What users get must agree within TOLERANCE, by platform.

  python scripts/accelerator_smoke.py --out results
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import accelerator_common as common
import accelerator_training as training
import jax
import numpy as np

from facejax.runtime import mesh as mesh_lib

STEPS = 20
# Of the loss, the largest difference as users get it. TF32 keeps 10 bits of a
# factor, a TPU's single pass 7. Chosen before any device was measured.
TOLERANCE = {"cpu": 1e-3, "gpu": 0.03, "tpu": 0.05}
# Of the controls' largest difference so far; below it the last bits of a loss.
TIMES, LAST_BITS = 10, 1e-6
CONTROLS = (1, 2)  # seeds


def nudge(tree, seed: int):
  """Every matrix and kernel of float32, each number moved by one rounding."""
  signs = np.random.default_rng(seed)

  def moved(leaf):
    if leaf.dtype != np.float32 or leaf.ndim < 2:
      return leaf
    step = signs.choice(np.array([-np.inf, np.inf], np.float32), leaf.shape)
    return np.nextafter(leaf, step)

  return jax.tree.map(moved, tree)


def runs(
  setting: training.Setting,
  batches,
  device,
  precision: str | None,
  controls: Sequence[int] = (),
) -> Iterator[dict[str, object]]:
  """Losses of the steps, and how long they took; then of each seed's control.

  All are of one compiled program, so that the first alone waits for it.
  """
  started = time.perf_counter()
  # On the accelerator's process a CPU would get the accelerator's arrays.
  with contextlib.ExitStack() as stack:
    stack.enter_context(jax.default_device(device))
    if precision:
      stack.enter_context(jax.default_matmul_precision(precision))
    program = training.build(setting, device)
    placement = jax.tree.map(lambda leaf: leaf.sharding, program.start)
    first = jax.device_get(program.start)  # which the steps give away
    for control in (None, *controls):
      start = first if control is None else nudge(first, control)
      losses, ends = steps(program, jax.device_put(start, placement), batches)
      steady = float(np.median(np.diff(ends)))
      yield {
        "device": device.device_kind,
        "products": precision or "default",
        "losses": losses,
        "seconds_to_first_step": ends[0] - started,
        "images_a_second": setting.batch / steady,
      }
      started = time.perf_counter()


def steps(program: training.Program, state, batches):
  """Losses of the steps, and when each had ended."""
  losses, ends = [], []
  for batch in batches:
    placed = mesh_lib.put_batch(batch, program.mesh)
    state, metrics = program.step(state, placed["images"], placed["labels"])
    losses.append(float(metrics["loss"]))
    ends.append(time.perf_counter())
  return losses, ends


def apart(losses, wanted) -> np.ndarray:
  """Relative differences, step by step; infinite for what is no number."""
  found = np.abs(np.array(losses) / np.array(wanted) - 1)
  return np.where(np.isfinite(found), found, np.inf)


def compare(record: common.Record, name: str, differences, allowed) -> None:
  """Keeps the differences, and whether all of them are allowed."""
  worst = int(np.argmax(differences / allowed))
  found: dict[str, Any] = {
    "largest": float(np.max(differences)),
    "differences": differences.tolist(),
    "allowed": np.broadcast_to(allowed, differences.shape).tolist(),
    "agrees": bool(np.all(differences <= allowed)),
  }
  if not found["agrees"]:
    found["error"] = (
      f"the loss of step {worst} is {differences[worst]:.2g} from the CPU's,"
      f" allowed is {found['allowed'][worst]:.2g}"
    )
  record.add(f"agreement, {name}", **found)


def main() -> int:
  args = common.arguments(__doc__, "smoke")
  record = common.Record("smoke", args)
  setting = training.TINY if args.tiny else training.Setting()
  count = 4 if args.tiny else STEPS
  started = time.perf_counter()
  batches = training.batches(setting, count)
  record.add("data", images=count * setting.batch, images_are="generated faces",
             seconds=time.perf_counter() - started)  # fmt: skip
  here, cpu = jax.devices()[0], jax.devices("cpu")[0]
  losses: dict[str, object] = {}

  def train(names: Sequence[str], *where, **options) -> None:
    with record.attempt(f"training, {names[0]}"):
      found = runs(setting, batches, *where, **options)
      for name, one in zip(names, found, strict=True):
        losses[name] = one["losses"]
        record.add(f"training, {name}", **dataclasses.asdict(setting), **one)

  train(["default"], here, None)
  controls = [f"control {seed}" for seed in CONTROLS]
  train(["CPU", *controls], cpu, "float32", controls=CONTROLS)
  if {"default", "CPU"} <= losses.keys():
    differences = apart(losses["default"], losses["CPU"])
    compare(record, "default", differences, TOLERANCE[common.kind()])
  train(["float32"], here, "float32")
  if {"float32", "CPU", *controls} <= losses.keys():
    grown = [apart(losses[each], losses["CPU"]) for each in controls]
    grown = np.maximum.accumulate(np.max(grown, axis=0))
    differences = apart(losses["float32"], losses["CPU"])
    compare(record, "float32", differences, LAST_BITS + TIMES * grown)
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
