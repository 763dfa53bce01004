"""Reading on a few threads what is needed next."""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

_I = TypeVar("_I")
_T = TypeVar("_T")
_READERS = 8


def blocks(
  read: Callable[[_I], _T],
  indices: Sequence[_I],
  size: int,
  *,
  readers: int = _READERS,
) -> Iterator[list[_T]]:
  """Reads items in blocks, one block ahead of the one handed out.

  Args:
    read: reads one item, from any thread.
    indices: which items, in order.
    size: items in a block; the last may have fewer.
    readers: how many threads.

  >>> list(blocks(lambda k: k * k, range(5), 2))
  [[0, 1], [4, 9], [16]]
  """
  parts = [indices[k : k + size] for k in range(0, len(indices), size)]
  pool = futures.ThreadPoolExecutor(readers)
  try:
    reading = pool.map(read, parts[0]) if parts else iter(())
    for ahead in [*parts[1:], []][: len(parts)]:
      items = list(reading)
      reading = pool.map(read, ahead)
      yield items
  finally:
    # Not waited for: what nobody reads to its end is closed wherever memory
    # happens to be collected. Where that is a thread that is just being
    # started, a wait for other threads would never end.
    pool.shutdown(wait=False, cancel_futures=True)
