"""How the head's kernels walk a shard: tiles, chunks, cores, fast memory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from facejax.head import shard_plan
from facejax.runtime import typing

# Rows a tile and examples a product, by the precision of products: long enough
# that the matrix unit never waits; longer ones only make larger programs.
_SIZES = {"bfloat16": (512, 1024), "float32": (256, 512)}
_TILE_BYTES = 2**20
LANES = 128
_MIB = 2**20
# VMEM of a core by the kind of device; others are taken for the smallest.
_VMEM = {
  "TPU v5 lite": 128 * _MIB,
  "TPU v5e": 128 * _MIB,
  "TPU v6 lite": 128 * _MIB,
  "TPU v6e": 128 * _MIB,
  "TPU v5": 64 * _MIB,
  "TPU v5p": 64 * _MIB,
  "TPU7x": 64 * _MIB,
}
_SMALLEST = 16 * _MIB

# Held in VMEM as a whole, once, from the first turn to the last; and numbers.
WHOLE = pl.BlockSpec(pipeline_mode=pl.Buffered(1))
NUMBERS = pl.BlockSpec(memory_space=pltpu.SMEM)


class Tiles(NamedTuple):
  """How kernels walk a shard; static.

  Attributes:
    rows: of the shard.
    size: rows a tile; the last tile may hold fewer.
    batch: examples, filled up to whole chunks.
    chunk: examples whose logits are made at once.
    cores: of a device; each takes a share of the tiles, with sums of its own.
    vmem: bytes that a kernel may use.
    interpret: whether to run without a TPU, slowly.
  """

  rows: int
  size: int
  batch: int
  chunk: int
  cores: int
  vmem: int
  interpret: bool

  @property
  def grid(self) -> tuple[int, int]:
    """Cores, and turns of each."""
    count = pl.cdiv(self.rows, self.size)
    return self.cores, pl.cdiv(count, self.cores)

  def nominal(self, core: typing.Array, turn: typing.Array) -> typing.Array:
    """The tile of a turn; past the last one there is nothing to do."""
    return core * self.grid[1] + turn

  def has_work(self) -> typing.Array:
    """Whether this turn has a tile; inside a kernel."""
    tile = self.nominal(pl.program_id(0), pl.program_id(1))
    return tile < pl.cdiv(self.rows, self.size)

  def row_numbers(self) -> typing.Array:
    """int32 [size, 1], the rows of this turn's tile; inside a kernel."""
    tile = self.nominal(pl.program_id(0), pl.program_id(1))
    offsets = jax.lax.broadcasted_iota(jnp.int32, (self.size, 1), 0)
    return tile * self.size + offsets

  def room(self, dim: int, arrays: int, itemsize: int) -> int:
    """Bytes of VMEM that the update of so many arrays needs, at most."""
    examples = self.batch * dim * (itemsize + 4)
    # Two of each coming, two going.
    windows = 4 * arrays * self.size * dim * 4
    # About what waits between products: compiled programs took less.
    return examples + windows + 4 * self.size * (6 * self.chunk + 8 * dim)

  def of_rows(self, dim: int) -> pl.BlockSpec:
    """Of arrays [rows, dim]: a tile a turn."""
    last = pl.cdiv(self.rows, self.size) - 1
    # A core that is done stays at its last tile, which is then written once.
    return pl.BlockSpec(
      (self.size, dim), lambda c, t: (jnp.minimum(self.nominal(c, t), last), 0)
    )

  def in_place(self, first: int, count: int) -> dict[int, int]:
    """Aliases of so many arguments [rows, dim] from `first` on with results."""
    # The interpreter returns aliased arrays filled up to whole tiles.
    if self.interpret and self.rows % self.size:
      return {}
    return {first + index: index for index in range(count)}

  def sums(self, height: int, width: int) -> pl.BlockSpec:
    """Of results [cores, height, width], which a core adds to at every turn."""
    return pl.BlockSpec(
      (None, height, width),
      lambda c, t: (c, 0, 0),
      pipeline_mode=pl.Buffered(1),
    )


def make_tiles(
  plan: shard_plan.Plan, shape: tuple[int, ...], batch: int
) -> Tiles:
  """How kernels walk a shard of so many rows and numbers a row.

  Args:
    plan: see there.
    shape: [rows, dim].
    batch: examples that the shard sees.
  """
  rows, dim = shape
  device = plan.head.mesh.devices.flat[0]
  size, chunk = _SIZES[plan.head.precision]
  chunk = min(_round_up(batch, LANES), chunk)
  size = plan.head.block_size or min(size, _TILE_BYTES // (4 * dim))
  # Whole registers of 16 rows, of 2 bytes each; or all rows.
  size = min(_round_up(size, 16), rows)
  on_tpu = plan.platform == "tpu"
  cores = device.num_cores if on_tpu else 1
  return Tiles(
    rows=rows,
    size=size,
    batch=_round_up(batch, chunk),
    chunk=chunk,
    # With fewer tiles than cores, a core would write over another's tile.
    cores=min(cores, pl.cdiv(rows, size)),
    # Not all of it: the compiler needs some for itself.
    vmem=_VMEM.get(device.device_kind, _SMALLEST) * 7 // 8,
    interpret=not on_tpu,
  )


def _round_up(value: int, unit: int) -> int:
  """The next multiple."""
  return -(-value // unit) * unit


def call(
  kernel: Any, tiles: Tiles, outputs: list[jax.ShapeDtypeStruct], **options: Any
) -> Any:
  """`pl.pallas_call` over the tiles, inside shard_map."""
  return pl.pallas_call(
    kernel,
    grid=tiles.grid,
    out_shape=outputs,
    interpret=pltpu.InterpretParams(num_cores_or_threads=tiles.cores)
    if tiles.interpret
    else False,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary"),
      vmem_limit_bytes=tiles.vmem,
    ),
    **options,
  )


def result(shape: tuple[int, ...], like: typing.Array) -> jax.ShapeDtypeStruct:
  """A float32 result that differs between the shards as `like` does."""
  axes = jax.typeof(like).manual_axis_type
  return jax.ShapeDtypeStruct(shape, jnp.float32, manual_axis_type=axes)
