"""The planned memory of a head, as a table to be read."""

from typing import Any


def report(figures: dict[str, Any]) -> str:
  """The figures of `plan`, to be read."""
  settings, room = figures["settings"], figures["room"]
  columns = figures["implementations"]
  each = list(columns.values())
  table = {"on one device": list(columns)}
  table["prototypes kept in"] = [column["dtype"] for column in each]
  table["optimizer state kept in"] = [column["state_dtype"] for column in each]
  # A program that the compiler refuses has no temporaries to speak of.
  names = dict.fromkeys(name for column in each for name in column["buffers"])
  for name in names:
    sizes = [column["buffers"].get(name) for column in each]
    table[name] = ["-" if size is None else readable(size) for size in sizes]
  table["peak"] = [readable(column["peak"]) for column in each]
  table["fits"] = ["yes" if column["fits"] else "NO" for column in each]
  table["bytes a class held"] = [f"{c['bytes_per_class']:,.0f}" for c in each]
  table["classes that fit, in all"] = [
    f"{c['classes_that_fit']:,}" for c in each
  ]
  for name in dict.fromkeys(name for c in each for name in c["seconds"]):
    times = [c["seconds"].get(name) for c in each]
    table[f"step, {name}"] = [
      "-" if time is None else f"{1e3 * time:,.2f} ms" for time in times
    ]
  centers = settings["centers"]
  lines = [
    f"{settings['classes']:,} classes x {settings['dim']}"
    + (f" x {centers} centers" if centers > 1 else "")
    + f", batch {settings['batch']:,}, {_optimizer(settings)},"
    f" rate {settings['rate']:g} of partial_fc and sparse",
    f"{settings['devices']} device(s), classes split over"
    f" {settings['model']}, in blocks of {figures['block_size']:,}",
    f"{readable(room['free'])} for the head on each device: {room['source']}"
    + (f" less {readable(room['reserved'])}" if room["reserved"] else ""),
    figures["compiled_for"],
    "",
    *(
      f"{label:<31}" + "".join(f"{cell:>14}" for cell in cells)
      for label, cells in table.items()
    ),
    *_notes(columns),
  ]
  return "\n".join(lines)


def _optimizer(settings: dict[str, Any]) -> str:
  """The optimizer, of sgd with its momentum."""
  name = settings["optimizer"]
  if name != "sgd":
    return name
  momentum = settings["momentum"]
  return f"sgd with momentum {momentum:g}" if momentum else "sgd, no momentum"


def _notes(columns: dict[str, Any]) -> list[str]:
  """What the first program sends, and why programs do not fit."""
  name, first = next(iter(columns.items()))
  lines = [
    f"  {one['count']} x {one['kind']} over {one['axis']},"
    f" {readable(one['size'])}" + (", inside the loop" * one["in_loop"])
    for one in first["collectives"]
    if one["axis"]
  ]
  if lines:
    lines = ["", f"sent in a step of {name}, by each device:", *lines]
  refused = [
    f"{name} does not compile: {column['refused']}"
    for name, column in columns.items()
    if column["refused"]
  ]
  return lines + (["", *refused] if refused else [])


def readable(size: float) -> str:
  """Bytes in the unit that suits them.

  >>> readable(0), readable(3 * 2**19), readable(2**34)
  ('0 B', '1.50 MiB', '16.00 GiB')
  """
  for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
    if abs(size) >= 2**power:
      return f"{size / 2**power:,.2f} {unit}"
  return f"{size:.0f} B"
