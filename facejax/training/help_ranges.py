"""The range of each number, as --help shows it."""

import dataclasses
from typing import Annotated

import tyro
from tyro import constructors

from facejax.runtime import ranges


def showing_ranges() -> constructors.ConstructorRegistry:
  """Says how --help is made: with its range beside each number's default."""
  registry = constructors.ConstructorRegistry()
  asking = False

  @registry.struct_rule
  def with_ranges(
    info: constructors.StructTypeInfo,
  ) -> constructors.StructConstructorSpec | None:
    nonlocal asking
    if asking or not dataclasses.is_dataclass(info.type):
      return None
    # What tyro makes of the class itself: this rule stands aside for it.
    asking = True
    spec = registry.get_struct_spec(info)
    asking = False
    if not isinstance(spec, constructors.StructConstructorSpec):
      return None
    bounds = ranges.of_fields(info.type)
    fields = (_with_range(one, bounds.get(one.name)) for one in spec.fields)
    return dataclasses.replace(spec, fields=tuple(fields))

  return registry


def _with_range(
  field: constructors.StructFieldSpec, bounds: ranges.Range | None
) -> constructors.StructFieldSpec:
  if bounds in (None, ranges.Range()):
    return field
  hint = tyro.conf.arg(
    help_behavior_hint=lambda default: f"(default: {default}; in {bounds})"
  )
  return dataclasses.replace(field, type=Annotated[field.type, hint])
