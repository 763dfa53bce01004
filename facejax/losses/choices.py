"""One message for every option that has a few values."""

from typing import Any, get_args


def check(name: str, value: str, choices: Any) -> None:
  """Raises ValueError unless value is one of a Literal's.

  >>> from typing import Literal
  >>> check("sign", "both", Literal["plus", "minus"])
  Traceback (most recent call last):
  ValueError: sign='both': choose one of ('plus', 'minus')
  """
  if value not in get_args(choices):
    raise ValueError(f"{name}={value!r}: choose one of {get_args(choices)}")
