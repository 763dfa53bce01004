"""Which image stands where in the endless stream, and its random numbers."""

import functools
import threading
from typing import Protocol

import grain
import numpy as np

from facejax.data import sampling

# Below this size grain's shuffle takes 0.07 to 6 ms an element, and a whole
# permutation costs next to nothing; above, grain's needs no memory.
SMALL = 4096
_BATCHES_KEPT = 64  # more than are read ahead at any time


class Order(Protocol):
  """Record ids by their place in the endless stream."""

  def __getitem__(self, position: int, /) -> int: ...


def order(size: int, *, seed: int, sampler: sampling.Sampler | None) -> Order:
  """Returns the order of a sampler, or a shuffled one.

  Args:
    size: How many images there are.
    seed: Of the shuffle; a sampler has its own.
    sampler: Chooses the images of each batch; None shuffles all.
  """
  if sampler is not None:
    return _SampledOrder(sampler)
  return (_LargeOrder if size >= SMALL else _SmallOrder)(size, seed)


class _SampledOrder:
  """Record ids in the order of a sampler; sent to workers as it is."""

  def __init__(self, sampler: sampling.Sampler):
    self._sampler = sampler
    # Records are asked for one by one: all but the first find their batch here.
    self._batch = functools.lru_cache(_BATCHES_KEPT)(sampler.batch)

  def __reduce__(self):
    return _SampledOrder, (self._sampler,)

  def __getitem__(self, position: int) -> int:
    step, place = divmod(position, self._sampler.batch_size)
    return int(self._batch(step)[place])


class _SmallOrder:
  """Record ids without end, every epoch permuted as a whole."""

  def __init__(self, size: int, seed: int):
    self._size, self._seed = size, seed

  def __getitem__(self, position: int) -> int:
    epoch, place = divmod(position, self._size)
    return int(_permutation(self._size, self._seed, epoch)[place])


class _LargeOrder:
  """Record ids without end, every epoch in an order that needs no memory.

  The same as of grain's MapDataset.range(size).seed(seed).shuffle().repeat(),
  whose layers cost ten times what the shuffle itself does.
  """

  def __init__(self, size: int, seed: int):
    self._size, self._seed = size, int(_seed_at(seed, 1))

  def __getitem__(self, position: int) -> int:
    epoch, place = divmod(position, self._size)
    return grain.experimental.index_shuffle(
      place,
      max_index=self._size - 1,
      seed=(self._seed + epoch) % 2**32,
      rounds=4,
    )


def _seed_at(seed: int, distance: int) -> np.uint32:
  """Returns the seed that grain gives a transformation behind `seed(seed)`."""
  return np.random.SeedSequence([seed, distance]).generate_state(1)[0]


@functools.lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng([seed, epoch]).permutation(size)


class Draws:
  """Generators keyed by seed and place in the stream, as grain makes them.

  To set the counter of a generator takes half the time of making one, so each
  thread keeps its own.
  """

  def __init__(self, seed: int, order: Order):
    self._arguments = seed, order
    # Behind range, seed, shuffle and repeat; or behind range, seed and map.
    self._key = _seed_at(seed, 3 if isinstance(order, _LargeOrder) else 2)
    self._kept = threading.local()

  def __reduce__(self):
    return Draws, self._arguments

  def __call__(self, position: int) -> np.random.Generator:
    if not hasattr(self._kept, "generator"):
      philox = np.random.Philox(self._key)
      self._kept.generator = np.random.Generator(philox)
      self._kept.state = philox.state
    state = self._kept.state
    state["state"]["counter"][3] = position
    self._kept.generator.bit_generator.state = state
    return self._kept.generator
