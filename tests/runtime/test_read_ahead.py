"""Reading ahead on threads."""

import threading

import pytest

from facejax.runtime import read_ahead


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_blocks_come_in_order_and_whole(count):
  found = list(read_ahead.blocks(lambda k: -k, range(count), 4))
  assert [item for block in found for item in block] == [
    -k for k in range(count)
  ]
  assert [len(block) for block in found[:-1]] == [4] * (len(found) - 1)


def test_only_one_block_is_read_ahead():
  seen = set()

  def read(index):
    seen.add(index)
    return index

  blocks = read_ahead.blocks(read, range(100), 5)
  next(blocks)
  assert max(seen) < 10


def test_what_goes_wrong_reaches_the_reader():
  blocks = read_ahead.blocks(lambda k: 1 // (3 - k), range(9), 2)
  assert next(blocks) == [0, 0]
  with pytest.raises(ZeroDivisionError):
    list(blocks)


def test_who_stops_reading_does_not_wait():
  # Closed by whoever collects memory, which must not hold up that thread.
  done = threading.Event()

  def read(index):
    if index >= 2:
      done.wait()
    return index

  blocks = read_ahead.blocks(read, range(100), 2)
  assert next(blocks) == [0, 1]
  blocks.close()
  done.set()
