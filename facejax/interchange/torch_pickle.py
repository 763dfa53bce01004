"""Reads what `torch.save` pickled, as data: nothing that it names is called.

A state dict asks for a handful of names of PyTorch. None of them is imported:
what they would make is made here, as dictionaries and `tensors.Tensor`s.
"""

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

from facejax.interchange import torch_tensors
from facejax.runtime import pickle_machine, pickle_values

# Exact names only: whoever allows all of a module allows too much.
_CALLS = {
  ("torch._utils", "_rebuild_tensor_v2"): "tensor",
  ("torch._utils", "_rebuild_tensor"): "tensor",
  ("torch._utils", "_rebuild_parameter"): "parameter",
  ("collections", "OrderedDict"): "dictionary",
  ("torch", "Size"): "size",
}


@dataclasses.dataclass(frozen=True)
class _Unknown:
  """The name of something that is not made here."""

  name: str


class TensorMachine(pickle_machine.Machine):
  """The machine for weights.

  Args:
    data: the pickle, and what may follow it.
    read: reads the bytes of a storage by its key.
    place: where the pickle begins.
  """

  kind = "checkpoint"

  def __init__(
    self, data: bytes, read: Callable[[str], bytes], *, place: int = 0
  ):
    super().__init__(data, place)
    self._read = read
    self.storages: dict[str, torch_tensors.Storage] = {}

  @property
  def actions(self) -> dict[bytes, Callable[[Any], Any]]:
    return _ACTIONS

  def find(self, module: Any, name: Any) -> Any:
    known = isinstance(module, str) and isinstance(name, str)
    if known and (module, name) in _CALLS:
      return pickle_values.Name(_CALLS[module, name])
    if known and module == "torch" and name in torch_tensors.STORAGES:
      return pickle_values.Name(name)
    if not known:
      raise pickle_values.UnpickleError("asks for something unnamed")
    # Trainers keep the classes of their callbacks beside the weights. A name
    # harms nobody as long as nothing calls it.
    return _Unknown(f"{module[:80]}.{name[:80]}")

  def call(self, called: Any, arguments: Any) -> Any:
    if isinstance(called, _Unknown):
      raise pickle_values.UnpickleError(
        f"asks for {called.name}, which no weights need; nothing was run. If"
        " you trust the file, load it with PyTorch and save its state dict"
        " alone"
      )
    if not isinstance(called, pickle_values.Name) or not isinstance(
      arguments, tuple
    ):
      raise pickle_values.UnpickleError(
        "calls something other than a known name"
      )
    match called.name, arguments:
      case "tensor", (
        torch_tensors.Storage() as storage,
        start,
        shape,
        strides,
        *_,
      ):
        return torch_tensors.Tensor(
          storage, start, tuple(shape), tuple(strides)
        )
      case "parameter", (torch_tensors.Tensor() as tensor, *_):
        return tensor
      case "dictionary", ():
        return {}
      case "dictionary", (list() as items,):
        return dict(items)
      case "size", (sizes,):
        return tuple(sizes)
    raise pickle_values.UnpickleError(
      f"makes a {called.name} of something else"
    )

  def build(self, made: Any, state: Any) -> None:
    # PyTorch hangs its versions of modules on a state dict.
    if not isinstance(made, dict) or not isinstance(state, dict):
      raise pickle_values.UnpickleError("sets the state of something else")

  def storage(self, described: Any) -> torch_tensors.Storage:
    """What `torch.save` calls a persistent object."""
    match described:
      case (
        "storage",
        pickle_values.Name(name=kind),
        str() as key,
        str(),
        int() as count,
        *_,
      ) if kind in torch_tensors.STORAGES and count >= 0:
        made = torch_tensors.Storage(
          torch_tensors.STORAGES[kind], count, lambda: self._read(key)
        )
        before = self.storages.setdefault(key, made)
        if (before.dtype, before.count) != (made.dtype, made.count):
          raise pickle_values.UnpickleError(
            f"describes storage {key!r} in two ways"
          )
        return before
    raise pickle_values.UnpickleError(
      "refers to something other than a storage"
    )

  def update(self, items: list[Any]) -> None:
    """Adds keys and values, in turn, to a dictionary."""
    if not isinstance(self.stack[-1], dict) or len(items) % 2:
      raise pickle_values.UnpickleError(
        "adds to something other than a dictionary"
      )
    self.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _persistent(machine: TensorMachine) -> None:
  (described,) = machine.last(1)
  machine.push(machine.storage(described))


def _dictionary(machine: TensorMachine) -> None:
  items = machine.since_mark()
  machine.push({})
  machine.update(items)


_ACTIONS = {
  **pickle_machine.ACTIONS,
  pickle.EMPTY_DICT: lambda m: m.push({}),
  pickle.DICT: _dictionary,
  pickle.SETITEM: lambda m: m.update(m.last(2)),
  pickle.SETITEMS: lambda m: m.update(m.since_mark()),
  pickle.BINFLOAT: lambda m: m.push(torch_tensors.read_float(m.take(8))),
  pickle.BINPERSID: _persistent,
}
