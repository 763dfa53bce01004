"""Values that losses take, and one message for those that they do not."""

from typing import Any, get_args

import jax.numpy as jnp

from facejax.runtime import typing


def check(name: str, value: str, choices: Any) -> None:
  """Raises ValueError unless value is one of a Literal's.

  >>> from typing import Literal
  >>> check("sign", "both", Literal["plus", "minus"])
  Traceback (most recent call last):
  ValueError: sign='both': choose one of ('plus', 'minus')
  """
  if value not in get_args(choices):
    raise ValueError(f"{name}={value!r}: choose one of {get_args(choices)}")


def labels(values: typing.ArrayLike) -> typing.Array:
  """Labels as an array; refuses what is no whole number.

  Raises:
    ValueError: if they are floats or booleans.

  >>> labels([0.0, 1.0])
  Traceback (most recent call last):
  ValueError: labels are float32: they must be whole numbers, such as int32
  """
  values = jnp.asarray(values)
  if not jnp.issubdtype(values.dtype, jnp.integer):
    raise ValueError(
      f"labels are {values.dtype}: they must be whole numbers, such as int32"
    )
  return values


def people(values: typing.ArrayLike) -> typing.Array:
  """Labels [batch] of a loss within a batch, each stranger a person apart.

  A label below 0 says that nobody knows who it is. Such an example has no
  positive, and is a negative of all others.

  Raises:
    ValueError: if they are no whole numbers.

  >>> people(jnp.array([3, -1, -1])).tolist()
  [3, -2, -3]
  """
  found = labels(values)
  apart = -1 - jnp.arange(found.shape[0], dtype=found.dtype)
  return jnp.where(found < 0, apart, found)
