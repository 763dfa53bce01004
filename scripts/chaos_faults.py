"""Faults of running processes, for `chaos.py`.

Each takes a folder of its own, the losses of a calm run, and draws what it
needs; it returns what became of the fault.
"""

import pathlib
import random
import signal
import time
from collections.abc import Mapping

import chaos_disks
import chaos_world as world

Calm = Mapping[int, float]
# Exit codes of facejax.train.
_DONE, _FAILED, _MISTAKE, _STUCK, _STOPPED, _LOST = 0, 1, 2, 70, 75, 76


class Kills:
  """One run after the other is killed again and again, and goes on.

  Args:
    folder: for the runs.
    calm: what their losses must be in the end.
    count: of processes.
  """

  def __init__(self, folder: pathlib.Path, calm: Calm, *, count: int):
    self._folder, self._calm, self._count = folder, calm, count
    self._runs = 0
    self._workdir = folder / "kills0"

  def kill(self, rng: random.Random) -> world.Outcome:
    """Kills one process at a random moment; the rest must end by themselves."""
    before = world.whole_steps(self._workdir)
    last = max(world.losses(self._workdir), default=0)
    run = world.Run(self._workdir, count=self._count)
    victim = rng.randrange(self._count)
    fault = f"SIGKILL of process {victim} of {self._count}"
    # What has all its steps already is let come to its end.
    if last >= max(self._calm) or not run.wait_for_step(last + 1):
      return self._ended(run, fault, 0.0)
    world.some_time(rng, 0.6)
    began = time.monotonic()
    run.processes[victim].kill()
    codes = run.codes()
    seconds = time.monotonic() - began
    if codes[victim] != -signal.SIGKILL:
      return self._ended(run, fault, seconds)
    others = [code for k, code in enumerate(codes) if k != victim]
    named = run.said(rf"error: process {victim} \(.*it is gone")
    whole = world.whole_steps(self._workdir)
    kept = not before or (bool(whole) and whole[-1] >= before[-1])
    text = f"newest whole checkpoint: step {whole[-1] if whole else 0}"
    if others:
      text = f"the others ended with {sorted(set(others))}; {text}"
    ok = kept and all(code == _LOST for code in others)
    ok = ok and (named or not others)
    return world.Outcome(fault, text if ok else run.told(text), seconds, ok)

  def _ended(self, run: world.Run, fault: str, seconds: float) -> world.Outcome:
    """The run came to its end first: was it as if nothing had happened?"""
    codes = run.codes()
    same = world.same_curve(self._workdir, self._calm)
    self._runs += 1
    self._workdir = self._folder / f"kills{self._runs}"
    text = "after many kills at its end, " + (
      "losses as those of a calm run" if same else f"other losses ({codes})"
    )
    text = text if same else run.told(text)
    return world.Outcome(fault, text, seconds, same)


def stopped(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """SIGTERM or Ctrl-C to one of two processes, then the same command again."""
  number = rng.choice((signal.SIGTERM, signal.SIGINT))
  victim = rng.randrange(2)
  slow = {"fault": "slow", "seconds": 0.1, "process": 0}
  run = world.Run(folder / "run", count=2, chaos=slow)
  fault = f"{number.name} to process {victim} of 2"
  run.wait_for_step(rng.randint(1, 6))
  began = time.monotonic()
  run.processes[victim].send_signal(number)
  codes = run.codes()
  seconds = time.monotonic() - began
  step = (world.whole_steps(folder / "run") or [0])[-1]
  again = world.Run(folder / "run", count=1)
  again.codes()
  same = world.same_curve(folder / "run", calm)
  text = f"all ended with {codes}, saved step {step}; resumed by one process"
  resumed = step == 0 or again.said(f"resumed at step {step}")
  ok = codes == [_STOPPED] * 2 and same and resumed
  return world.Outcome(fault, text, seconds, ok)


def error(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """An exception in one of two processes."""
  del calm
  victim, step = rng.randrange(2), rng.randint(1, 8)
  run = world.Run(
    folder / "run",
    count=2,
    chaos={"fault": "raise", "process": victim, "step": step},
  )
  codes, seconds = run.codes_after(step)
  told = all("an error of its own" in output for output in run.outputs)
  text = f"all ended with {codes}, each with the message: {told}"
  return world.Outcome(
    f"exception in process {victim} of 2 at step {step}",
    text,
    seconds,
    codes == [_FAILED] * 2 and told,
  )


def straggler(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """One of two processes is slow; it is named, and nothing else changes."""
  victim = rng.randrange(2)
  slow = {"fault": "slow", "seconds": 1.0, "process": victim}
  began = time.monotonic()
  run = world.Run(folder / "run", "--steps", 8, count=2, chaos=slow)
  codes = run.codes()
  named = run.said(rf"process {victim} \(.*holds the others up")
  del calm
  return world.Outcome(
    f"process {victim} of 2 sleeps 1 s a step",
    f"named in the log: {named}",
    time.monotonic() - began,
    codes == [_DONE] * 2 and named,
  )


def two_runs(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """A second run in a work folder."""
  first = world.Run(folder / "run")
  first.wait_for_step(rng.randint(1, 4))
  began = time.monotonic()
  second = world.Run(folder / "run")
  # Both write their output beside the folder: this one's is the last.
  codes = second.codes()
  seconds = time.monotonic() - began
  first_codes = first.codes()
  same = world.same_curve(folder / "run", calm)
  told = second.said("is in use by process")
  return world.Outcome(
    "a second run in the same work folder",
    f"refused with {codes[0]} and a message; the first ended untouched: {same}",
    seconds,
    codes == [_MISTAKE] and first_codes == [_DONE] and same and told,
  )


def input_worker(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """A process that reads images is killed."""
  step = rng.randint(2, 6)
  run = world.Run(
    folder / "run",
    *("--data.workers", 1),
    chaos={"fault": "worker", "step": step},
  )
  codes, seconds = run.codes_after(step)
  told = run.said("error: a process that reads images is gone")
  again = world.Run(folder / "run", "--data.workers", 1).codes()
  same = again == [_DONE] and world.same_curve(folder / "run", calm)
  return world.Outcome(
    f"input worker killed after step {step}",
    f"ended with {codes[0]}, told: {told}; again, as a calm run: {same}",
    seconds,
    codes == [_MISTAKE] and told and same and not run.said("Traceback"),
  )


def clock(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """The time of day jumps, while a checkpoint may be on its way to the disk."""
  hours = rng.choice((-24, -1, 1, 24))
  step = rng.randint(3, 9)
  jump = {"fault": "clock", "step": step, "seconds": 3600 * hours}
  run = world.Run(folder / "run", chaos=jump)
  codes, seconds = run.codes_after(step)
  same = world.same_curve(folder / "run", calm)
  return world.Outcome(
    f"the clock jumps by {hours} hours at step {step}",
    f"ended with {codes[0]}, losses as those of a calm run: {same}",
    seconds,
    codes == [_DONE] and same,
  )


def bad_batch(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """The loss of a batch is NaN, in one or two processes."""
  how, count = rng.choice(("stop", "rollback")), rng.randint(1, 2)
  step = rng.randint(3, 12)
  words = ("--on-nonfinite", how)
  began = time.monotonic()
  run = world.Run(
    folder / "run", *words, count=count, chaos={"fault": "nan", "step": step}
  )
  codes = run.codes()
  seconds = time.monotonic() - began
  fault = f"NaN in a batch, {count} processes, --on-nonfinite {how}"
  named = run.said(r"not finite at step \d+") and run.said("synthetic/")
  if how == "rollback":
    ok = codes == [_DONE] * count and named
    return world.Outcome(fault, f"named, left out: {ok}", seconds, ok)
  # Whoever takes the bad image away goes on as if it had never been.
  again = world.Run(folder / "run").codes()
  same = again == [_DONE] and world.same_curve(folder / "run", calm)
  text = f"ended with {codes}, images named: {named}; afterwards as a calm run"
  ok = codes == [_FAILED] * count and named and same
  return world.Outcome(fault, f"{text}: {same}", seconds, ok)


def hang(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """One of two processes does not go on."""
  victim, step = rng.randrange(2), rng.randint(2, 8)
  run = world.Run(
    folder / "run",
    *("--stuck-after", 3),
    count=2,
    chaos={"fault": "hang", "process": victim, "step": step},
  )
  codes, seconds = run.codes_after(step)
  stacks = all("the threads of process" in output for output in run.outputs)
  del calm
  return world.Outcome(
    f"process {victim} of 2 hangs at step {step}",
    f"all ended with {codes}; stacks of all printed: {stacks}",
    seconds,
    codes == [_STUCK] * 2 and stacks,
  )


def no_memory(folder: pathlib.Path, calm: Calm, rng: random.Random):
  """Classes that no machine of this size has room for."""
  del calm
  millions = rng.randint(100, 200)
  began = time.monotonic()
  run = world.Run(
    folder / "run",
    *("--head.extra-classes", f"{millions}000000"),
    *("--model.embedding-dim", 512, "--model.dtype", "float32"),
  )
  codes = run.codes()
  advised = run.said("--head.storage bfloat16")
  return world.Outcome(
    f"{millions} million classes on this machine",
    f"ended with {codes[0]}, advised what to change: {advised}",
    time.monotonic() - began,
    codes == [_MISTAKE] and advised and not run.said("Traceback"),
  )


FAULTS = {
  "stop": stopped,
  "error": error,
  "straggler": straggler,
  "two_runs": two_runs,
  "worker": input_worker,
  "clock": clock,
  "disk_full": chaos_disks.disk_full,
  "read_only": chaos_disks.read_only,
  "bad_images": chaos_disks.bad_images,
  "bad_batch": bad_batch,
  "hang": hang,
  "no_memory": no_memory,
}
