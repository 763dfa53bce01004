"""Pictures that are read though something is odd about them: counted and named.

Each process counts its own. The first of a kind are named in the log; after
them every tenth, hundredth … tells how many there were.
"""

import collections
import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

_NAMED = 3
_lock = threading.Lock()
_counts = collections.Counter[str]()


def note(kind: str, name: str | Callable[[], str], detail: str = "") -> None:
  """Counts one picture of a kind; from any thread.

  Args:
    kind: What is odd about it, after the name: "has stray bytes".
    name: What messages call it; a function is called for messages alone.
    detail: What a library said of it.
  """
  with _lock:
    _counts[kind] += 1
    count = _counts[kind]
  if count <= _NAMED or _is_power_of_ten(count):
    logger.warning(
      "%r %s%s%s; read all the same",
      name if isinstance(name, str) else name(),
      kind,
      f" ({detail})" if detail else "",
      f", the {count:,}th such image" if count > _NAMED else "",
    )


def counted(kind: str) -> int:
  """How many pictures of a kind this process has read."""
  with _lock:
    return _counts[kind]


def _is_power_of_ten(count: int) -> bool:
  return str(count).strip("0") == "1"
