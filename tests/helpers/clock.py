"""Time that passes when a test says so."""


class Clock:
  """A clock that moves only when told to."""

  def __init__(self):
    self.now = 100.0

  def __call__(self) -> float:
    return self.now
