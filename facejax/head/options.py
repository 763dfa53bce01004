"""What can be chosen about a head, each choice explained and checked once."""

import dataclasses
from typing import Literal, TypeAlias

import jax
import optax

from facejax.head import objective as objective_lib
from facejax.head import sampling
from facejax.head import storage as storage_lib
from facejax.losses import choices
from facejax.runtime import mesh as mesh_lib

Implementation: TypeAlias = Literal[
  "fused", "pallas", "chunked", "dense", "partial_fc", "sparse"
]
# Those of which a share of the classes, `rate`, gets a gradient.
SOME_CLASSES = ("partial_fc", "sparse")
Precision: TypeAlias = Literal["float32", "bfloat16", "float8"]

# Class ids are int32, and so are the rows of a shard, padding included.
MAX_CLASSES = 2**31 - 2**16


@dataclasses.dataclass(frozen=True)
class Options:
  """What a head is; static, programs are compiled for it.

  Attributes:
    objective: what to minimise.
    num_classes: the true number of classes; rows of the prototypes from there
      on are padding and take no part.
    mesh: with axes "data" and "model". Prototypes are split by class over
      "model", embeddings over both.
    tx: the optimizer of the prototypes; None will do where only the loss is
      wanted. For fused, partial_fc and sparse, what it does to a row must not
      depend on other rows. Its schedules advance once a step.
    implementation: how `Head.update` works.
      "fused": exact; applies the optimizer to each block of the gradient as
        soon as it is made, so that all of the gradient never exists.
      "pallas": the same in two kernels for TPUs, between whose products
        logits do not leave the chip. For softmax over unit prototypes at a
        scale that needs no running maximum, one prototype a class, float32
        storage, classes split over all devices. Elsewhere than on a TPU it is
        interpreted: to be tested, not used.
      "chunked": exact; makes the logits block by block, and again in the
        backward pass, and applies the optimizer to the whole gradient.
      "dense": exact; writes all logits out on every device. The specification.
      "partial_fc": counts and updates the classes of the batch and a sampled
        share `rate` of the others (see `sampling`).
      "sparse": the loss is exact; its gradient goes to the classes of the
        batch and a share `rate` of the most probable others (see `sparse`;
        the rest is `HeadOutput.dropped`). With a `divergence` of the objective
        it is exact: all classes that have a gradient get it, however many, and
        `rate` is not looked at (see `supports`).
      In the last two, rows that are not updated keep their optimizer state,
      weight decay included.
    rate: see above; in (0, 1].
    block_size: classes a block; None for the rule of `blocks.block_size`.
      Of pallas the rows a tile, a multiple of 16.
    saved_bytes: room on each device to keep exponentials of the forward pass,
      which then need not be computed again: up to a quarter of a CPU's time.
      Used by fused, where sums of e^z need no shift; refused on TPUs.
    precision: of the operands of the matmuls, for accelerators, and so of the
      embeddings that cross the devices; sums, margins and the optimizer stay
      float32. In bfloat16 the target's cosine too is of a rounded embedding:
      off by 1e-4 in the mean at 512 numbers, less than all other cosines are.
      "float8" does that to the products of the gradient, and makes logits of
      operands in float8 (see `products`), for accelerators that multiply them.
    centers: k, sub-centres a class, of which the nearest stands for it.
    storage: how prototypes are kept; see `facejax.head.storage`.
    optimizer_storage: how what the optimizer keeps of each class is kept.

  Raises:
    ValueError: if a value is outside its range, or two do not go together.
  """

  objective: objective_lib.Objective
  num_classes: int
  mesh: jax.sharding.Mesh
  _: dataclasses.KW_ONLY
  tx: optax.GradientTransformation | None = None
  implementation: Implementation = "fused"
  rate: float = 0.1
  block_size: int | None = None
  saved_bytes: int = 0
  precision: Precision = "float32"
  centers: int = 1
  storage: storage_lib.Storage = "float32"
  optimizer_storage: storage_lib.Storage = "float32"

  def __post_init__(self):
    choices.check("implementation", self.implementation, Implementation)
    choices.check("precision", self.precision, Precision)
    for name in ("storage", "optimizer_storage"):
      choices.check(name, getattr(self, name), storage_lib.Storage)
    if not 1 <= self.num_classes <= MAX_CLASSES:
      raise ValueError(
        f"num_classes={self.num_classes}: must be 1 to {MAX_CLASSES:,}, for"
        " class ids are int32"
      )
    if not {"data", "model"} <= set(self.mesh.axis_names):
      raise ValueError(
        f"mesh with axes {self.mesh.axis_names}: needs 'data' and 'model', as"
        " of `runtime.mesh.make_mesh`"
      )
    sampling.stratum(self.rate)  # raises unless the rate is in (0, 1]
    if self.block_size is not None and self.block_size < 1:
      raise ValueError(
        f"block_size={self.block_size}: must be 1 or more, or None"
      )
    if self.saved_bytes < 0:
      raise ValueError(
        f"saved_bytes={self.saved_bytes}: must be 0 or more; 0 keeps nothing"
      )
    if self.centers < 1:
      raise ValueError(f"centers={self.centers}: must be 1 or more a class")
    if self.saved_bytes and mesh_lib.platform(self.mesh) == "tpu":
      raise ValueError(
        f"saved_bytes={self.saved_bytes}: must be 0 on a TPU, which makes the"
        " exponentials again in less time than it takes to read them"
      )
    self._check_pairs()

  def _check_pairs(self) -> None:
    """Refuses options that do not go together."""
    sampling_or_kernels = self.implementation in ("partial_fc", "pallas")
    if self.objective.divergence is not None and sampling_or_kernels:
      raise ValueError(
        f"implementation={self.implementation!r} is for e^z, and the objective has"
        " a divergence, whose classes without probability cost nothing: use"
        " sparse or fused"
      )
    one_vs_all = self.objective.one_vs_all is not None
    if self.implementation == "sparse" and one_vs_all:
      raise ValueError(
        "implementation='sparse' needs a softmax: one-vs-all losses have no"
        " probabilities over the classes; use fused or partial_fc"
      )
    if self.implementation == "sparse" and not self.objective.own_counts:
      raise ValueError(
        "implementation='sparse' needs a softmax in which the own class counts:"
        " use fused"
      )
    if self.implementation != "dense" and self.objective.table is not None:
      raise ValueError(
        f"implementation={self.implementation!r} walks through the classes block"
        " by block, and this loss needs all cosines at once: use dense"
      )
    if self.implementation == "pallas":
      self._check_pallas()
    kept = {"prototypes": self.storage, "state": self.optimizer_storage}
    for what, dtype in kept.items():
      if self.updates_whole and dtype != "float32":
        raise ValueError(
          f"implementation={self.implementation!r} keeps its {what} in float32,"
          f" not {dtype}: use fused, partial_fc or sparse"
        )

  def _check_pallas(self) -> None:
    """Refuses what there are no kernels for."""
    objective = self.objective
    lacking = {
      "one-vs-all losses": objective.one_vs_all is not None,
      "losses that change other classes' logits": objective.negative
      is not None,
      "an interclass_filtering_threshold": (
        objective.interclass_filtering_threshold > 0
      ),
      "prototypes of any length": not objective.unit_prototypes,
      "embeddings of any length (scale=None)": objective.scale is None,
      f"scale={objective.scale} (sums of e^z would leave float32)": (
        objective.is_bounded and not objective.sums_fit(self.num_classes)
      ),
      f"centers={self.centers}": self.centers > 1,
      f"precision={self.precision}": self.precision == "float8",
      f"storage={self.storage}": self.storage != "float32",
      f"optimizer_storage={self.optimizer_storage}": (
        self.optimizer_storage != "float32"
      ),
      "saved exponentials": self.saved_bytes > 0,
      "copies of the classes (mesh.model less than the devices)": (
        self.shards < self.mesh.size
      ),
    }
    found = [what for what, is_asked in lacking.items() if is_asked]
    if found:
      raise ValueError(
        f"implementation='pallas' has no kernels for {' and '.join(found)}: use"
        " fused"
      )

  @property
  def updates_whole(self) -> bool:
    """Whether the optimizer is given the gradient of all prototypes at once."""
    return self.implementation in ("chunked", "dense")

  @property
  def narrow_operands(self) -> bool:
    """Whether products round their operands."""
    return self.precision != "float32"

  @property
  def shards(self) -> int:
    """Devices that the classes are split over."""
    return self.mesh.shape["model"]

  @property
  def rows(self) -> int:
    """Rows of the prototypes: num_classes, rounded up to the shards."""
    return -(-self.num_classes // self.shards) * self.shards
