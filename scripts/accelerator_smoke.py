"""The first steps of the embedded default, with losses beside a CPU's.

The same state and the same generated faces on both, in one process: once with
the products and convolutions as users get them, which accelerators make in less
than float32, and once with all of float32. The losses must agree within
TOLERANCE, by platform: rounding grows from step to step.

  python scripts/accelerator_smoke.py --out results
"""

import contextlib
import dataclasses
import sys
import time

import accelerator_common as common
import accelerator_training as training
import jax
import numpy as np

from facejax.runtime import mesh as mesh_lib

STEPS = 20
# How products are made: as JAX does by itself, or with all of float32.
PRODUCTS = {"default": None, "float32": "float32", "CPU": "float32"}
# Of the loss, the largest difference: (as users get it, all of float32). TF32
# keeps 10 bits of a factor, a TPU's single pass 7. Chosen before any device was
# measured.
TOLERANCE = {
  "cpu": {"default": 1e-3, "float32": 1e-3},
  "gpu": {"default": 0.03, "float32": 3e-3},
  "tpu": {"default": 0.05, "float32": 1e-2},
}


def run(
  setting: training.Setting, batches, device, precision: str | None
) -> dict[str, object]:
  """Losses of the steps, and how long they took."""
  started = time.perf_counter()
  # On the accelerator's process a CPU would get the accelerator's arrays.
  with contextlib.ExitStack() as stack:
    stack.enter_context(jax.default_device(device))
    if precision:
      stack.enter_context(jax.default_matmul_precision(precision))
    program = training.build(setting, device)
    state, losses, ends = program.start, [], []
    for batch in batches:
      placed = mesh_lib.put_batch(batch, program.mesh)
      state, metrics = program.step(state, placed["images"], placed["labels"])
      losses.append(float(metrics["loss"]))
      ends.append(time.perf_counter())
  steady = float(np.median(np.diff(ends)))
  return {
    "device": device.device_kind,
    "products": precision or "default",
    "losses": losses,
    "seconds_to_first_step": ends[0] - started,
    "images_a_second": setting.batch / steady,
  }


def compare(record: common.Record, name: str, losses, wanted) -> None:
  """Keeps the largest relative difference, and whether it is allowed."""
  allowed = TOLERANCE[common.kind()][name]
  largest = float(np.abs(np.array(losses) / np.array(wanted) - 1).max())
  found = {"largest": largest, "allowed": allowed, "agrees": largest <= allowed}
  if not found["agrees"]:  # NaN agrees with nothing
    text = f"losses are {largest:.2g} from the CPU's, allowed are {allowed:g}"
    found["error"] = text
  record.add(f"agreement, {name}", **found)


def main() -> int:
  args = common.arguments(__doc__, "smoke")
  record = common.Record("smoke", args)
  setting = training.TINY if args.tiny else training.Setting()
  steps = 4 if args.tiny else STEPS
  started = time.perf_counter()
  batches = training.batches(setting, steps)
  record.add("data", images=steps * setting.batch, images_are="generated faces",
             seconds=time.perf_counter() - started)  # fmt: skip
  here, cpu = jax.devices()[0], jax.devices("cpu")[0]
  losses: dict[str, object] = {}
  # Name, device, and whose losses can be compared then.
  runs = (("default", here, ""), ("CPU", cpu, "default"),
          ("float32", here, "float32"))  # fmt: skip
  for name, device, ready in runs:
    with record.attempt(f"training, {name}"):
      found = run(setting, batches, device, PRODUCTS[name])
      losses[name] = found["losses"]
      record.add(f"training, {name}", **dataclasses.asdict(setting), **found)
    if ready in losses and "CPU" in losses:
      compare(record, ready, losses[ready], losses["CPU"])
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
