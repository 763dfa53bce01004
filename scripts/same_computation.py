"""Shows that a run is one computation, whatever its processes and devices.

  python scripts/same_computation.py
  python scripts/same_computation.py --recipes facenet.py --output table.md
  python scripts/same_computation.py --tiny

Trains each recipe in double precision, without verification:

  1 x 8          one process with eight CPU devices: the reference
  2 x 4          two processes with four devices each
  2 x 4, killed  the same again; its processes are killed (SIGKILL) when step
                 --kill-after is logged
  1 x 2, 4 x 1   go on: copies of the killed run's folder, carried to the end

Compared with the reference are the losses of all steps, to 1e-9 relative, and
the batches, image for image: digests of pixels and label at each place of the
batch, taken of what the devices are given, after sampling and augmentation. A
run that goes on is compared from the step after its checkpoint on.

Runs are real ones, `python -m facejax.launch ... -- train ...`, in a temporary
folder or in --work, where their logs stay. Prints a table; --output writes it
too, as Markdown or (NAME.json) as JSON. Exit status 1 if anything differs or a
run fails. --tiny is a net of a few channels on generated faces, in a minute.
Flags after -- are given to the trainer, too.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence

import chaos_world as world
import same_computation_runs as runs
import same_computation_table as table_lib

RECIPES = ("cosface.py:lfw", "facenet.py")
_HERE = pathlib.Path(__file__).parent
TINY = (f"{_HERE / 'narrow_recipe.py'}:cosface",)
_FLAGS = (
  *("--model.dtype", "float64", "--log-every", "1", "--eval.every", "0"),
  *("--eval.pairs", "none", "--eval.threshold-pairs", ""),
)
# Where a killed run waits for its end, should nobody have seen the step before.
_GRACE = 2


def rows(
  recipe: str,
  folder: pathlib.Path,
  *,
  steps: int,
  kill_after: int,
  flags: Sequence[str],
) -> Iterator[table_lib.Row]:
  """All runs of a recipe, one after the other.

  Args:
    recipe: what to train.
    folder: for the runs.
    steps: of each run.
    kill_after: the logged step after which one is killed.
    flags: further ones of the trainer.
  """

  def run(
    name: str, count: int, devices: int, last: int | None = None
  ) -> runs.Run:
    return runs.Run(
      recipe,
      folder / name,
      processes=count,
      devices=devices,
      flags=[*flags, "--steps", str(steps)],
      last=last,
    )

  expected = run("1x8", 1, 8).end()
  yield table_lib.compare(
    recipe, table_lib.REFERENCE, expected, expected, last=steps
  )
  found = run("2x4", 2, 4).end()
  yield table_lib.compare(recipe, "2 x 4", found, expected, last=steps)
  killed = run("killed", 2, 4, kill_after + _GRACE).killed_after(kill_after)
  logged = max(killed.losses)
  form = f"2 x 4, killed after step {logged}"
  yield table_lib.compare(recipe, form, killed, expected, last=logged)
  saved = max(world.whole_steps(folder / "killed"), default=0)
  if not saved:
    raise RuntimeError("the killed run left no whole checkpoint")
  for count, devices in ((1, 2), (4, 1)):
    name = f"{count}x{devices}"
    shutil.copytree(folder / "killed", folder / name)
    found = run(name, count, devices).end()
    form = f"… gone on from step {saved} as {count} x {devices}"
    yield table_lib.compare(
      recipe, form, found, expected, first=saved + 1, last=steps
    )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--recipes", nargs="+", default=RECIPES, help="cosface.py:lfw facenet.py")
  add("--steps", type=int, default=50, help="of each run (50)")
  add(
    "--kill-after",
    type=int,
    metavar="STEP",
    help="logged step after which a run is killed (23 of 50, in proportion)",
  )
  add(
    "--save-every",
    type=int,
    default=10,
    metavar="STEPS",
    help="between checkpoints (10)",
  )
  add("--tiny", action="store_true", help="a small net in place of the recipes")
  add("--work", type=pathlib.Path, help="folder for the runs, new or empty")
  add("--output", type=pathlib.Path, help="file for the table: .md or .json")
  add("flags", nargs="*", help="after --, further flags of the trainer")
  return parser


def _arguments() -> argparse.Namespace:
  """The command line, with what depends on other flags."""
  parser = _parser()
  args = parser.parse_args()
  if args.tiny:
    args.recipes = TINY
  if args.kill_after is None:
    args.kill_after = round(args.steps * 23 / 50)
  most = args.steps - _GRACE - 1
  if not 0 < args.save_every <= args.kill_after <= most:
    parser.error(
      f"--save-every {args.save_every}, --kill-after {args.kill_after}: the"
      " killed run must have saved and not be at its end; give --save-every of"
      f" 1 or more, and --kill-after from that to {most}, or more --steps"
    )
  if args.work and args.work.is_dir() and any(args.work.iterdir()):
    parser.error(f"--work {args.work} is not empty: name a new folder")
  return args


def main() -> int:
  """Runs the command line; 1 if anything differs."""
  args = _arguments()
  flags = [*_FLAGS, "--checkpoint.every", str(args.save_every), *args.flags]
  found: list[table_lib.Row] = []
  with tempfile.TemporaryDirectory(prefix="facejax-same-") as temporary:
    for number, recipe in enumerate(args.recipes):
      folder = (args.work or pathlib.Path(temporary)) / str(number)
      folder.mkdir(parents=True)
      for row in rows(
        *(recipe, folder),
        steps=args.steps,
        kill_after=args.kill_after,
        flags=flags,
      ):
        found.append(row)
        mark = "ok " if row.same else "BAD"
        what = f"{row.difference:.1e}, {row.differing} images differ"
        print(f"[{mark}] {row.recipe}, {row.form}: {what}", flush=True)
        if args.output:
          table_lib.write(args.output, found)
  print(f"\n{table_lib.table(found)}")
  bad = sum(not row.same for row in found)
  print(f"{len(found)} runs, {bad} of them another computation")
  return 1 if bad else 0


if __name__ == "__main__":
  try:
    sys.exit(main())
  except RuntimeError as error:
    sys.exit(f"error: {error}")
