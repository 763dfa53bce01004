"""How many devices the classes are split over: what each choice sends.

N devices are P copies ("data") of M shards ("model"), N = P M. In a step each
device then sends, B examples, C classes, D numbers, in rings:

  over model   (M - 1)/M * (B / P) * D * (4 + 4)     embeddings, their gradient
  over data    2 (P - 1)/P * (C / M) * D * 4         the prototypes' gradient

(2 + 4 where products are bfloat16). The first asks for many copies, the second
for one: without copies 8 B D bytes cross whatever C is, and copies pay only
where a shard has fewer classes than a batch has examples, C / M < B; then
about sqrt(B N / C) of them. Islands are devices with fast links among
them, nodes or slices; what has to leave one counts tenfold.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from facejax.head import blocks, options, storage

# Links between nodes or slices are ten to a hundred times slower.
SLOWER = 10
# A message takes the time of so many bytes before its first one arrives: 10 us
# at 100 GB/s. Sums over data are one a block.
MESSAGE = 2**20
# How much less must be sent for copies, which also multiply what each device
# holds and updates, and from what factor and difference on one is told.
_GAIN, _BAD, _MUCH = 2, 4, 2**24
# Of a device's memory, what the head may have.
_SHARE = 0.5
# Arrays of the prototypes' size that an optimizer keeps, at the most.
_STATES = 2


class Load(NamedTuple):
  """What a step of the head sends and holds depends on.

  Attributes:
    batch: examples, on all devices together.
    dim: numbers of an embedding.
    classes: how many.
    centers: prototypes a class.
    class_bytes: of prototypes and optimizer state, a class.
    narrow: whether products are bfloat16.
    share: of the classes that get a gradient.
    platform: of the devices.
    copies: whether there may be any; kernels know none.
  """

  batch: int
  dim: int
  classes: int
  centers: int = 1
  class_bytes: int = 0
  narrow: bool = False
  share: float = 1.0
  platform: str = "cpu"
  copies: bool = True


class Links(NamedTuple):
  """The devices and what lies between them.

  Attributes:
    devices: how many.
    islands: groups of as many devices each with fast links inside.
    memory: bytes of a device; None if that is not known.
  """

  devices: int
  islands: int = 1
  memory: int | None = None


class Sent(NamedTuple):
  """What a device sends in a step.

  Attributes:
    bytes: all of it.
    far: the bytes that leave its island.
    messages: how many.
  """

  bytes: float
  far: float
  messages: int

  @property
  def cost(self) -> float:
    """In bytes over fast links."""
    return self.bytes + SLOWER * self.far + MESSAGE * self.messages

  def __str__(self) -> str:
    far = f", {_mib(self.far)} of it to others' nodes" if self.far else ""
    return f"{_mib(self.bytes)} in {self.messages} messages{far}"


class MeshChoice(NamedTuple):
  """The number of shards, and why.

  Attributes:
    model: how many.
    reason: in words.
  """

  model: int
  reason: str


def sent(load: Load, links: Links, model: int) -> Sent:
  """What a device sends with so many shards.

  >>> a = Load(batch=1024, dim=512, classes=10**6)
  >>> print(sent(a, Links(8), 8))
  3.5 MiB in 2 messages
  >>> print(sent(a, Links(8), 4))
  493.5 MiB in 248 messages
  """
  copies = links.devices // model
  seen = load.batch / copies
  gathered = seen * load.dim * ((2 if load.narrow else 4) + 4)
  rows = -(-load.classes // model)
  own = rows * load.share + (load.batch if load.share < 1 else 0)
  size = blocks.block_size(
    batch=max(1, round(seen)),
    dim=load.dim * load.centers,
    rows=rows,
    platform=load.platform,
    narrow=load.narrow,
  )
  # One sum a block, which is a whole one; of several, one more runs behind.
  sums = math.ceil(min(rows, own) / size)
  sums += sums > 1
  summed = 8 * sums * size * load.dim * load.centers
  total, far, messages = 0.0, 0.0, 0
  ids = np.arange(links.devices).reshape(copies, model)
  if model > 1:
    total += gathered * (model - 1) / model
    far += gathered * _crossings(ids, links)
    messages += 2
  if copies > 1:
    total += summed * (copies - 1) / copies
    far += summed * _crossings(ids.T, links)
    messages += sums
  return Sent(total, far, messages)


def _crossings(groups: np.ndarray, links: Links) -> float:
  """Which part of a group's bytes leave an island, a device of it.

  A group in k islands brings (k - 1)/k of its bytes into each of them, over the
  links of all devices there.
  """
  each = links.devices // links.islands
  leaving = sum(len({*(group // each)}) - 1 for group in groups)
  return leaving / links.devices


def choose(load: Load, links: Links) -> MeshChoice:
  """The number of shards, by what is sent.

  All devices, unless copies of the classes send less than half of it by
  `Sent.cost`; then what costs least, of those whose shard of prototypes and
  optimizer state takes no more than half of a device's memory.
  """
  whole = links.devices
  if not load.copies or whole == 1:
    return MeshChoice(whole, "classes over all devices")
  costs = {model: sent(load, links, model) for model in _fitting(load, links)}
  best = min(costs, key=lambda model: (costs[model].cost, -model))
  other = max((m for m in costs if m < whole), default=None)
  if costs[whole].cost <= _GAIN * costs[best].cost:
    beside = "" if other is None else f"; over {other}: {costs[other]}"
    return MeshChoice(
      whole,
      f"classes over all {whole} devices, a step sends {costs[whole]}{beside}",
    )
  return MeshChoice(
    best,
    f"classes over {best} of {whole} devices, a step sends {costs[best]}; over"
    f" all: {costs[whole]}",
  )


def complaint(load: Load, links: Links, model: int) -> str | None:
  """What to say of a number of shards that sends far more than another.

  None where it costs less than four times the least, or 16 MiB more.
  """
  if not load.copies:
    return None
  own = sent(load, links, model)
  better = choose(load, links).model
  least = sent(load, links, better)
  if own.cost < max(_BAD * least.cost, least.cost + _MUCH):
    return None
  return (
    f"with mesh.model={model} of {links.devices} devices each sends {own} a step"
    f" for the head, with --mesh.model {better} {least}; auto chooses that"
  )


def _fitting(load: Load, links: Links) -> list[int]:
  """Numbers of shards that the devices have the memory for; all of them too."""
  whole = links.devices
  room = math.inf if links.memory is None else _SHARE * links.memory
  return [
    model
    for model in range(1, whole + 1)
    if whole % model == 0
    and (model == whole or -(-load.classes // model) * load.class_bytes <= room)
  ]


def load_of(
  settings: Any,
  *,
  batch: int,
  dim: int,
  classes: int,
  centers: int,
  platform: str,
) -> Load:
  """The load of a head with such settings.

  Args:
    settings: with implementation, rate, precision, storage and
      optimizer_storage, as of `Options`.
    batch, dim, classes, centers, platform: as of `Load`.
  """
  some = settings.implementation in options.SOME_CLASSES
  return Load(
    batch=batch,
    dim=dim,
    classes=classes,
    centers=centers,
    class_bytes=class_bytes(
      dim * centers, settings.storage, settings.optimizer_storage
    ),
    narrow=settings.precision != "float32",
    share=settings.rate if some else 1.0,
    platform=platform,
    copies=settings.implementation != "pallas",
  )


def class_bytes(
  numbers: int, kept: storage.Storage, optimizer_kept: storage.Storage
) -> int:
  """Bytes of a class of so many numbers, with as much state as any optimizer's.

  >>> class_bytes(512, "float32", "bfloat16")
  4096
  """
  state = _STATES * storage.row_bytes(numbers, optimizer_kept)
  return storage.row_bytes(numbers, kept) + state


def islands(devices: Sequence[Any]) -> int:
  """In how many groups of the same size devices have fast links.

  Slices of TPUs, and nodes of GPUs, as JAX tells them; else processes. 1 where
  groups differ in size.
  """
  groups: dict[Any, int] = {}
  for device in devices:
    # A slice of TPUs has several processes, and one where nothing is said.
    alone = 0 if device.platform == "tpu" else device.process_index
    place = getattr(device, "slice_index", alone)
    groups[place] = groups.get(place, 0) + 1
  return len(groups) if len({*groups.values()}) == 1 else 1


def _mib(size: float) -> str:
  return f"{size / 2**20:,.1f} MiB"
