"""Flags that several commands have: one spelling, one help."""

import argparse
import os
import pathlib
from collections.abc import Callable
from typing import Any

from facejax.runtime import (
  command_line,
  cpu_devices,
  distributed,
  rendezvous,
)

Parser = argparse.ArgumentParser

_MOST = 2**20
_CPU_DEVICES = "--cpu-devices"


class _IfGiven(argparse.Action):
  """Stores a positional that may be missing, over no flag of its name."""

  def __call__(self, parser, namespace, values, option_string=None):
    if values is not None:
      setattr(namespace, self.dest, values)


def run(
  parser: Parser,
  *,
  kind: Callable[[str], Any] = str,
  what: str = "folder of a trained net",
) -> None:
  """RUN, the folder of a run to read; --workdir RUN says the same.

  Both are found as `workdir`. For commands with no other positional.
  """
  either = parser.add_mutually_exclusive_group(required=True)
  either.add_argument(
    "workdir",
    metavar="RUN",
    nargs="?",
    type=kind,
    action=_IfGiven,
    help=what,
  )
  either.add_argument(
    "--workdir", metavar="RUN", type=kind, help="the same, as training calls it"
  )


def batch_size(parser: Parser, *, default: int = 128) -> None:
  """--batch-size."""
  parser.add_argument(
    "--batch-size",
    type=command_line.number(int, 1, _MOST),
    default=default,
    metavar="N",
    help=f"images at once ({default})",
  )


def devices(parser: Parser) -> None:
  """--devices and --cpu-devices."""
  parser.add_argument(
    "--devices",
    type=command_line.number(int, 1, _MOST),
    metavar="N",
    help="how many to compute on (all)",
  )
  parser.add_argument(
    _CPU_DEVICES,
    type=command_line.number(int, 1, cpu_devices.MOST),
    metavar="N",
    help="as how many the CPU is taken (as JAX decides: one)",
  )


def start(args: argparse.Namespace) -> None:
  """Joins the processes and takes the devices that were asked for.

  Of commands with `devices` and `processes`; before any device is used.

  Raises:
    ValueError, OSError: if flags or environment contradict each other, or the
      other processes cannot be reached.
  """
  cpu_devices.ask(args.cpu_devices)
  distributed.start(processes_of(args))
  cpu_devices.check(args.cpu_devices, flag=_CPU_DEVICES)


def photographs(parser: Any) -> None:
  """--align and --detector, of commands that take photographs of faces."""
  parser.add_argument(
    "--align",
    choices=("auto", "on", "off"),
    default="auto",
    help="auto: find and align the faces where a detector is installed; on: a"
    " picture without a face is refused; off: they are aligned (auto)",
  )
  parser.add_argument(
    "--detector",
    default="mtcnn",
    metavar="NAME",
    help="what finds faces (mtcnn; pip install 'facejax[detect]')",
  )


def overwrite(parser: Parser) -> None:
  """--overwrite, of commands that write OUT."""
  parser.add_argument(
    "--overwrite", action="store_true", help="replace OUT if it exists"
  )


def json(parser: Parser, *, file: bool = False) -> None:
  """--json: True if it is given; with `file`, the path that may follow it."""
  if file:
    parser.add_argument(
      "--json",
      nargs="?",
      const=True,
      default=False,
      type=pathlib.Path,
      metavar="FILE",
      help="print JSON instead, or write it to FILE",
    )
  else:
    parser.add_argument(
      "--json", action="store_true", help="print JSON instead"
    )


def workers(parser: Parser, *, least: int = 1, what: str = "processes") -> None:
  """--workers, one for each core unless said otherwise."""
  parser.add_argument(
    "--workers",
    type=command_line.number(int, least, 1024),
    default=max(1, os.cpu_count() or 1),
    metavar="N",
    help=f"{what} (one for each core)",
  )


def processes(parser: Parser) -> None:
  """The flags of commands that several processes may share."""
  group = parser.add_argument_group(
    "several processes",
    "the same command in each: each does its share, the first one writes",
  )
  add = group.add_argument
  add(
    "--distributed",
    choices=("auto", "on", "off"),
    default="auto",
    help="whether there are others: as the launcher's variables say (auto)",
  )
  add("--coordinator", metavar="HOST:PORT", help="of process 0")
  count = command_line.number(int, 1, _MOST)
  add("--processes", type=count, metavar="N", help="how many there are")
  place = command_line.number(int, 0, _MOST)
  add("--process-id", type=place, metavar="I", help="which this is, from 0")


def processes_of(args: argparse.Namespace) -> rendezvous.ProcessOptions:
  """What was given for the flags of `processes`."""
  return rendezvous.ProcessOptions(
    distributed=args.distributed,
    coordinator=args.coordinator,
    processes=args.processes,
    process_id=args.process_id,
  )
