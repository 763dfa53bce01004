"""Weights by the names that PyTorch checkpoints of the field give them.

Beside each net stands the list of its layers under both names, `torch_layers`;
here is what a layer's arrays look like on either side. Nothing is guessed: a
checkpoint with a tensor too many or too few is refused.

  variables = from_torch(net, arrays)   # arrays: {name: numpy array}
  arrays = to_torch(net, variables)     # variables: (params, stats)

`net` is a `functional.Backbone`; both ways are exact in float32.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

from facejax.runtime import typing

Path: TypeAlias = tuple[str | int, ...]

# torch counts batches beside the statistics; no published net reads the count.
_IGNORED = ".num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Layer:
  """One layer, or one array, under both names.

  Attributes:
    torch: its name in the state dict, without ".weight" and the like.
    path: its place in our tree of parameters.
    flat: of the linear layer behind a flattened map: (height, width) of the
      map. torch flattens it channel by channel, we pixel by pixel.
  """

  torch: str
  path: Path
  flat: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """One array: its name in torch, its place in our tree, and its layout."""

  name: str
  path: Path
  shape: tuple[int, ...]
  flat: tuple[int, int] | None = None

  def ours(self, array: np.ndarray) -> np.ndarray:
    """From torch's layout; shapes have been checked."""
    if len(self.shape) == 4:  # OIHW -> HWIO
      return array.transpose(2, 3, 1, 0)
    if self.flat:
      out = array.shape[0]
      maps = array.reshape(out, -1, *self.flat)
      return maps.transpose(2, 3, 1, 0).reshape(-1, out)
    return array.T if self.path[-1] == "kernel" else array

  def torch(self, array: np.ndarray) -> np.ndarray:
    """Back to torch's layout."""
    if len(self.shape) == 4:
      return array.transpose(3, 2, 0, 1)
    if self.flat:
      out = array.shape[1]
      maps = array.reshape(*self.flat, -1, out)
      return maps.transpose(3, 2, 0, 1).reshape(out, -1)
    return array.T if self.path[-1] == "kernel" else array

  @property
  def torch_shape(self) -> tuple[int, ...]:
    if len(self.shape) == 4:
      height, width, inputs, outputs = self.shape
      return outputs, inputs, height, width
    return self.shape[::-1] if self.path[-1] == "kernel" else self.shape


# Our name of a layer's array -> torch's.
_SUFFIXES = {
  "kernel": "weight",
  "scale": "weight",
  "slope": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}


def from_torch(
  net: Any, arrays: Mapping[str, np.ndarray], *, ignore: Collection[str] = ()
) -> tuple[typing.Params, typing.Params]:
  """A net's variables from a PyTorch state dict.

  Args:
    net: `functional.Backbone` that the weights are for.
    arrays: name -> array, as `tensor.numpy()` gives them; any float type.
    ignore: names that the net has no use for, such as those of a head.

  Returns:
    (params, stats), trees of float32 arrays, as `net.init` returns them.

  Raises:
    ValueError: if the field has no PyTorch layout for this net, if a tensor is
      missing, unknown or of another shape, or if one that the net keeps fixed
      at 1 is not.
  """
  tensors, fixed = _tensors(net)
  params, stats = _abstract(net)
  wanted = {tensor.name for tensor in tensors} | fixed.keys()
  _check_names(net.name, wanted=wanted, given=_counted(arrays) - set(ignore))
  for name in fixed:
    if not (arrays[name] == 1).all():
      raise ValueError(
        f"{name!r} must be 1 throughout: net {net.name!r} keeps this scale"
        " fixed, as published"
      )
  values = {}
  for tensor in tensors:
    array = np.asarray(arrays[tensor.name], np.float32)
    if array.shape != tensor.torch_shape:
      raise ValueError(
        f"{tensor.name!r} has the shape {array.shape}, but net {net.name!r}"
        f" with embedding_dim={net.embedding_dim} on images of"
        f" {net.image_size} has {tensor.torch_shape}"
      )
    # A copy: torch changes running statistics in place.
    values[tensor.path] = np.array(tensor.ours(array), order="C")
  fill: Any = lambda path, _: values[_path(path)]  # noqa: E731
  return (
    jax.tree.map_with_path(fill, params),
    jax.tree.map_with_path(fill, stats),
  )


def names(net: Any) -> set[str]:
  """The names of all arrays that a state dict of a net has.

  Raises:
    ValueError: if the field has no PyTorch layout for this net.
  """
  tensors, fixed = _tensors(net)
  return {tensor.name for tensor in tensors} | fixed.keys()


def to_torch(
  net: Any, variables: tuple[typing.Params, typing.Params]
) -> dict[str, np.ndarray]:
  """A net's variables as a PyTorch state dict, in the field's names.

  Args:
    net: `functional.Backbone` that they belong to.
    variables: (params, stats).

  Returns:
    Name -> float32 array, in the order of the net; without torch's counts of
    batches, which `load_state_dict(..., strict=False)` leaves as they are.

  Raises:
    ValueError: if the field has no PyTorch layout for this net.
  """
  tensors, fixed = _tensors(net)
  values = {
    _path(path): np.asarray(leaf, np.float32)
    for tree in variables
    for path, leaf in jax.tree.leaves_with_path(tree)
  }
  arrays = {
    tensor.name: np.array(tensor.torch(values[tensor.path]), order="C")
    for tensor in tensors
  }
  ones = {name: np.ones(size, np.float32) for name, size in fixed.items()}
  return arrays | ones


def _tensors(net: Any) -> tuple[list[_Tensor], dict[str, int]]:
  """The net's arrays, and the sizes of scales that are fixed at 1 by name."""
  if not net.torch_layers:
    raise ValueError(
      f"net {net.name!r} has no layout in PyTorch that the field agrees on"
    )
  shapes: dict[Path, tuple[int, ...]] = {
    _path(path): leaf.shape
    for tree in _abstract(net)
    for path, leaf in jax.tree.leaves_with_path(tree)
  }
  tensors, fixed = [], {}
  for layer in net.torch_layers:
    if layer.path in shapes:  # an array of its own
      tensors.append(_Tensor(layer.torch, layer.path, shapes[layer.path]))
      continue
    for ours, torch in _SUFFIXES.items():
      path, name = (*layer.path, ours), f"{layer.torch}.{torch}"
      if path in shapes:
        flat = layer.flat if ours == "kernel" else None
        tensors.append(_Tensor(name, path, shapes[path], flat))
    mean, scale, bias = ((*layer.path, x) for x in ("mean", "scale", "bias"))
    # Without a bias either, torch has none of the two.
    if mean in shapes and scale not in shapes and bias in shapes:
      fixed[f"{layer.torch}.weight"] = shapes[mean][0]
  listed = {tensor.path for tensor in tensors}
  assert listed == shapes.keys(), listed ^ shapes.keys()
  return tensors, fixed


def _counted(arrays: Mapping[str, np.ndarray]) -> set[str]:
  return {name for name in arrays if not name.endswith(_IGNORED)}


def unknown(net: Any, arrays: Mapping[str, np.ndarray]) -> list[str]:
  """The names that a net has no use for."""
  return sorted(_counted(arrays) - names(net))


def _abstract(net: Any) -> tuple[typing.Params, typing.Params]:
  return jax.eval_shape(net.init, jax.random.key(0))


def _path(path: tuple[Any, ...]) -> Path:
  """The keys of a path in a tree of dictionaries."""
  return tuple(part.key for part in path)


def _check_names(name: str, *, wanted: set[str], given: set[str]) -> None:
  problems = [
    f"{len(names)} {kind}: {', '.join(sorted(names)[:8])}"
    + (", …" if len(names) > 8 else "")
    for kind, names in (
      ("missing", wanted - given),
      ("unknown", given - wanted),
    )
    if names
  ]
  if problems:
    raise ValueError(
      f"these are not the weights of net {name!r}; tensors {'; '.join(problems)}"
    )
