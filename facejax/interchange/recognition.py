"""Which net a state dict is for, by the names of its arrays."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from facejax.interchange import layouts
from facejax.models import functional, iresnet, registry, torch_names

_USUAL = (112, 112)
# Layers that may lie beside a net, such as those of a head: with more it is
# another net, or one that lacks something.
_MOST_OTHERS = 4


@dataclasses.dataclass(frozen=True)
class Recognised:
  """A net, by the names of its arrays.

  Attributes:
    net: its name; one of several of the same names.
    se: whether it has squeeze-and-excitation.
  """

  net: str
  se: bool = False


def nets() -> list[str]:
  """The nets that the field has a PyTorch layout for."""
  return [name for name in functional.NETS if torch_layers(name, _USUAL)]


def recognise(names: Collection[str]) -> list[Recognised]:
  """The nets whose layers are all there, with little else beside them."""
  given = _layers_in(names)
  found: dict[int, list[Recognised]] = {}
  for net in nets():
    choices = (False, True) if hasattr(registry.SPECS[net], "se") else (False,)
    for se in choices:
      layers = _layers_of(net, se=se)
      # Nets that train without masks have no token for them.
      if layers - {"mask_token"} <= given:
        left = len(given - layers)
        found.setdefault(left, []).append(Recognised(net, se))
  least = min(found, default=_MOST_OTHERS + 1)
  return found[least] if least <= _MOST_OTHERS else []


def choose(
  asked: str | None, names: Collection[str], *, path: str
) -> Recognised:
  """The net that a state dict is for.

  One of AdaFace's is found where the iResNet of as many blocks was asked for,
  and the other way round: people call both "r50".

  Raises:
    ValueError: if none was asked for, or its names are another net's; says
      which, or whose layout this is.
  """
  stranger = layouts.foreign(names)
  if stranger is not None:
    raise ValueError(
      f"{path!r} has the layout of {stranger}: no net here is that one, and it"
      " cannot be imported"
    )
  found = recognise(names)
  called = " or ".join(one.net + " with --se" * one.se for one in found)
  if asked is None:
    hint = f"; its names are those of {called}" if found else ""
    raise ValueError(f"--net: say which net {path!r} is for: {nets()}{hint}")
  for one in found:
    if one.net == asked:
      return one
  alike = [one for one in found if _same_blocks(asked, one.net)]
  if len(alike) == 1:
    return alike[0]
  if found:
    given = _layers_in(names)
    missing = [
      x.torch for x in torch_layers(asked, _USUAL) if x.torch not in given
    ]
    lack = f"there is no '{missing[-1]}.weight', and" if missing else "for"
    raise ValueError(
      f"{path!r} is not of net {asked!r}: {lack} its names are those of"
      f" {called}"
    )
  return Recognised(asked)


def _layers_in(names: Collection[str]) -> set[str]:
  """Names of layers, and of arrays without a layer."""
  return {name.rpartition(".")[0] or name for name in names}


def _layers_of(net: str, *, se: bool = False) -> set[str]:
  options = {"se": True} if se else {}
  return {layer.torch for layer in torch_layers(net, _USUAL, **options)}


def _same_blocks(one: str, other: str) -> bool:
  kind = iresnet.IResNetSpec
  a, b = registry.find(one)[0], registry.find(other)[0]
  return isinstance(a, kind) and isinstance(b, kind) and a.blocks == b.blocks


def torch_layers(
  net: str, image_size: tuple[int, int], **options: Any
) -> Sequence[torch_names.Layer]:
  """The layers of a net, under both names."""
  spec, family = registry.find(net)
  spec = dataclasses.replace(spec, **options)
  return tuple(family.torch_layers(spec, image_size=image_size))


def image_size(net: str) -> tuple[int, int]:
  """(height, width) of the images that its released weights take."""
  return registry.find(net)[1].image_size


def epsilon(net: str) -> float:
  """What its BatchNorm adds to variances.

  Raises:
    ValueError: if it has several, or no BatchNorm.
  """
  found = registry.find(net)[1].epsilon
  if found is None:
    raise ValueError(
      f"--bn-epsilon: net {net!r} has no BatchNorm of one epsilon"
    )
  return found
