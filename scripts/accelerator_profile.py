"""A profile of two whole training steps, and where their time goes.

The trunk in bfloat16 with a head of many classes. The trace goes to
OUT/profile for a viewer (xprof, Perfetto), as far as it is small; the table of
the operations that took longest goes to profile.json and profile.txt.

  python scripts/accelerator_profile.py --out results
"""

import collections
import gzip
import pathlib
import shutil
import sys
import tempfile

import accelerator_common as common
import accelerator_training as training
import jax
import numpy as np

from facejax.runtime import mesh as mesh_lib

LIMIT = 12 * 2**20  # bytes of trace that are kept
ROWS = 40  # of the table
SETTING = training.Setting(
  net="iresnet50",
  image_size=(112, 112),
  embedding_dim=512,
  dtype="bfloat16",
  precision="bfloat16",
  classes=1_000_000,
  batch=128,
  scale=64.0,
  margin=0.4,
)
STEPS = 2


def trace(setting: training.Setting, folder: pathlib.Path) -> None:
  """Takes steps with random images: some to warm up, then those recorded."""
  device = jax.devices()[0]
  program = training.build(setting, device)
  rng = np.random.default_rng(0)
  shape = (setting.batch, *setting.image_size, 3)
  batch = {
    "images": rng.integers(0, 256, shape, np.uint8),
    "labels": rng.integers(0, setting.classes, setting.batch, np.int32),
  }
  placed = mesh_lib.put_batch(batch, program.mesh)
  state = program.start

  def steps(state, count):
    for _ in range(count):
      state, metrics = program.step(state, placed["images"], placed["labels"])
    return jax.block_until_ready((state, metrics))[0]

  state = steps(state, 3)
  options = jax.profiler.ProfileOptions()
  # What Python does is most of a trace, and not what is asked.
  options.python_tracer_level = 0
  options.host_tracer_level = 1
  with jax.profiler.trace(str(folder), profiler_options=options):
    steps(state, STEPS)


def operations(file: pathlib.Path) -> dict[str, list[float]]:
  """Seconds of each operation, by name: of devices, or of a CPU's threads."""
  planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
  devices = [plane for plane in planes if plane.name.startswith("/device:")]
  found = collections.defaultdict(list)
  for plane in devices or planes:
    lines = list(plane.lines)
    # A TPU's other lines, of modules and steps, hold the same time again.
    kind = "XLA Ops" if "XLA Ops" in [line.name for line in lines] else "Stream"
    if not devices:
      kind = "tf_XLA"
    for line in lines:
      if line.name.startswith(kind):
        for event in line.events:
          if not event.name.startswith("ThunkExecutor"):  # waits for others
            found[event.name].append(event.duration_ns * 1e-9)
  return found


def table(found: dict[str, list[float]]) -> list[str]:
  """The operations that took longest, a line for each."""
  total = sum(map(sum, found.values())) or 1.0
  lines = [f"{'seconds':>10} {'share':>6} {'count':>6}  operation"]
  order = sorted(found.items(), key=lambda item: -sum(item[1]))
  for name, each in order[:ROWS]:
    spent = sum(each)
    lines.append(
      f"{spent:10.6f} {spent / total:6.1%} {len(each):6}  {name[:100]}"
    )
  return lines


def keep(folder: pathlib.Path, out: pathlib.Path) -> dict[str, object]:
  """Puts the trace's files into OUT/profile if they are small enough."""
  target = out / "profile"
  target.mkdir(exist_ok=True)
  kept, left_out = {}, {}
  for file in filter(pathlib.Path.is_file, folder.rglob("*")):
    name, content = file.name, file.read_bytes()
    if file.suffix != ".gz":
      name, content = f"{name}.gz", gzip.compress(content)
    fits = sum(kept.values()) + len(content) <= LIMIT
    (kept if fits else left_out)[name] = len(content)
    if fits:
      (target / name).write_bytes(content)
  return {"kept": kept, "left_out": left_out, "limit": LIMIT}


def main() -> int:
  args = common.arguments(__doc__, "profile")
  record = common.Record("profile", args)
  setting = training.TINY if args.tiny else SETTING
  folder = pathlib.Path(tempfile.mkdtemp(prefix="facejax-profile-"))
  try:
    with record.attempt("trace"):
      trace(setting, folder)
      record.add("trace", steps=STEPS, **vars(setting))
      (file,) = folder.rglob("*.xplane.pb")
      lines = table(operations(file))
      (args.out / "profile.txt").write_text("\n".join(lines) + "\n")
      record.add("operations", table=lines)
      record.add("files", **keep(folder, args.out))
  finally:
    shutil.rmtree(folder)
  return record.finish()


if __name__ == "__main__":
  sys.exit(main())
