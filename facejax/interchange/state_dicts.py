"""Finds the weights of a net, or of its classes, in what was saved."""

import dataclasses
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from facejax.interchange import (
  layouts,
  safetensors_file,
  torch_read,
  torch_tensors,
)

# Where training code keeps the net's state dict beside other things, or inside
# of the one before; averaged weights first, for these are meant for use.
_AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema")
_USUAL = ("state_dict_backbone", "state_dict", "model_state_dict", "model")
_NETS = (*_AVERAGES, *_USUAL, "net", "backbone")
_CLASSES = ("state_dict_softmax_fc",)
# What wrappers for several devices and compilers put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
_LISTED = 8


@dataclasses.dataclass(frozen=True)
class StateDict:
  """The arrays of a net.

  Attributes:
    arrays: by name.
    prefix: what stood before the names.
    notes: what was chosen or left out, a sentence each.
  """

  arrays: dict[str, np.ndarray]
  prefix: str = ""
  notes: tuple[str, ...] = ()


def read_net(
  path: str | os.PathLike[str], *, prefix: str = ""
) -> dict[str, np.ndarray]:
  """The arrays of `read`, by name."""
  return read(path, prefix=prefix).arrays


def read(path: str | os.PathLike[str], *, prefix: str = "") -> StateDict:
  """The state dict of a net.

  Args:
    path: .pt or .pth file of PyTorch, or .safetensors.
    prefix: takes only names that begin so, without that beginning; such as
      "model." where a net and its head lie side by side. Without it the
      beginnings that are in common use are found.

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if it is damaged, holds more than data, or no state dict.
  """
  name = os.fspath(path)
  if name.endswith(".safetensors"):
    arrays, _ = safetensors_file.read(path)
    return _chosen(arrays, prefix, name, [])
  with torch_read.opened(path) as saved:
    notes: list[str] = []
    found = _state_dict(saved, name, notes)
    chosen = _chosen(found, prefix, name, notes)
    arrays = {
      key: _array(tensor, key, name) for key, tensor in chosen.arrays.items()
    }
    return dataclasses.replace(chosen, arrays=arrays)


def read_prototypes(paths: Sequence[str]) -> np.ndarray:
  """Joins the class weights that a PyTorch run saved device by device.

  Args:
    paths: one file a device: checkpoint_gpu_R.pt or softmax_fc_gpu_R.pt of
      arcface_torch, or a tensor or a list of tensors. Where names end in
      numbers these are the order, and none may be missing.

  Returns:
    float32 [classes, dim].

  Raises:
    FileNotFoundError: if there is no file.
    ValueError: if a file is damaged, one is missing, or they do not fit.
  """
  parts = []
  for path in _in_order(paths):
    for part in _read_classes(path):
      if part.ndim != 2 or not len(part):
        raise ValueError(
          f"{path!r}: class weights of shape {part.shape}; they must be"
          " [classes, dim]"
        )
      if parts and part.shape[1] != parts[0].shape[1]:
        raise ValueError(
          f"{path!r} has class weights of {part.shape[1]} numbers, those"
          f" before it of {parts[0].shape[1]}"
        )
      parts.append(part.astype(np.float32))
  joined = np.concatenate(parts)
  if not np.isfinite(joined).all():
    raise ValueError("class weights are not finite")
  return joined


def _in_order(paths: Sequence[str]) -> list[str]:
  """By the last number in their names, if all have one."""
  found = [re.findall(r"\d+", os.path.basename(path)) for path in paths]
  if len(paths) == 1 or not all(found):
    return list(paths)
  numbers = [int(digits[-1]) for digits in found]
  if sorted(numbers) != list(range(len(paths))):
    raise ValueError(
      f"class weights of devices {sorted(numbers)}: they must be 0 to"
      f" {len(paths) - 1}, each once; name all files of the run"
    )
  return [path for _, path in sorted(zip(numbers, paths, strict=True))]


def _read_classes(path: str) -> list[np.ndarray]:
  if path.endswith(".safetensors"):
    arrays, _ = safetensors_file.read(path)
    return [_only(arrays, path)]
  with torch_read.opened(path) as saved:
    for key in _CLASSES:
      if isinstance(saved, Mapping) and key in saved:
        saved = saved[key]
    if isinstance(saved, torch_tensors.Tensor):
      return [saved.numpy()]
    if isinstance(saved, Sequence) and saved and not isinstance(saved, str):
      return [_array(part, "of the list", path) for part in saved]
    if isinstance(saved, Mapping):
      return [_array(_only(saved, path), "weight", path)]
  raise ValueError(f"{path!r} holds no class weights")


def _only(named: Mapping[str, Any], path: str) -> Any:
  """The tensor "weight", or the only matrix."""
  if "weight" in named:
    return named["weight"]
  matrices = [
    name
    for name, tensor in named.items()
    if len(getattr(tensor, "shape", ())) == 2
  ]
  if len(matrices) != 1:
    raise ValueError(
      f"{path!r}: class weights are looked for as 'weight' or as the only"
      f" matrix; it has {_listed(named)}"
    )
  return named[matrices[0]]


def _state_dict(saved: Any, path: str, notes: list[str]) -> Mapping[str, Any]:
  for key in _NETS:
    if isinstance(saved, Mapping) and isinstance(saved.get(key), Mapping):
      if key not in _USUAL:
        average = ", the averaged weights" if key in _AVERAGES else ""
        notes.append(f"took the state dict {key!r}{average}")
      saved = saved[key]
  if not isinstance(saved, Mapping):
    raise ValueError(f"{path!r} holds no state dict")
  if not _has_tensors(saved):
    within = [key for key, inner in saved.items() if _has_tensors(inner)]
    if len(within) != 1:
      raise ValueError(f"{path!r} has no tensors, but {_listed(saved)}")
    notes.append(f"took the state dict {str(within[0])[:60]!r}")
    saved = saved[within[0]]
  return saved


def _has_tensors(saved: Any) -> bool:
  return isinstance(saved, Mapping) and any(
    isinstance(value, torch_tensors.Tensor) for value in saved.values()
  )


def _chosen(
  named: Mapping[str, Any], prefix: str, path: str, notes: list[str]
) -> StateDict:
  """The names of a net, without what stands before them."""
  if not all(isinstance(name, str) for name in named):
    raise ValueError(f"{path!r}: not all tensors have names")
  for wrapper in _WRAPPERS * 2:
    if named and all(name.startswith(wrapper) for name in named):
      if wrapper != _WRAPPERS[0]:
        notes.append(f"left {wrapper!r} off all names, of torch.compile")
      named = {name.removeprefix(wrapper): x for name, x in named.items()}
  asked, prefix = prefix, prefix or layouts.beginning(named)
  chosen = {
    name.removeprefix(prefix): tensor
    for name, tensor in named.items()
    if name.startswith(prefix)
  }
  if not chosen:
    raise ValueError(
      f"{path!r} has no names that begin with {prefix!r}: {_listed(named)}"
    )
  if prefix and not asked:
    others = [name for name in named if not name.startswith(prefix)]
    beside = f"; left out {_listed(others)}" if others else ""
    notes.append(f"took the names that begin with {prefix!r}{beside}")
  return StateDict(chosen, prefix, tuple(notes))


def _array(tensor: Any, name: str, path: str) -> np.ndarray:
  if not isinstance(tensor, torch_tensors.Tensor):
    raise ValueError(f"{path!r}: {name!r} is no tensor")
  try:
    return tensor.numpy()
  except ValueError as error:
    raise ValueError(f"{path!r}: {name!r}: {error}") from None


def _listed(named: Collection[Any]) -> str:
  names = [str(name)[:60] for name in list(named)[:_LISTED]]
  return ", ".join(names) + (", …" if len(named) > _LISTED else "")
