"""Checks of the head's fields, and of those that depend on them."""

from facejax.head import storage
from facejax.training import config as config_lib
from facejax.training.objectives import definition


def check(config: config_lib.Config) -> None:
  """A head must be able to do what is asked of it, for this loss.

  Raises:
    ValueError: naming the fields that do not go together.
  """
  _check_types(config)
  _check_loss(config)
  if config.head.interclass_filtering_threshold:
    _check_filter(config)


def _check_types(config: config_lib.Config) -> None:
  head = config.head
  narrow = {head.storage, head.optimizer_storage} != {"float32"}
  if narrow and head.implementation in ("chunked", "dense"):
    raise ValueError(
      f"head.implementation={head.implementation} keeps prototypes and their"
      " optimizer in float32: use fused, partial_fc or sparse with bfloat16"
      " or float8 storage"
    )
  storage.check_optimizer(config.optim.of_head().name, head.optimizer_storage)
  if config.on_nonfinite == "skip" and head.implementation == "pallas":
    raise ValueError(
      "on_nonfinite=skip: the kernels of head.implementation=pallas take every"
      " step; use fused, which skips, or on_nonfinite=rollback"
    )
  narrow = narrow or head.precision != "float32"
  if config.model.dtype == "float64" and (
    narrow or head.implementation in ("pallas", "sparse")
  ):
    raise ValueError(
      "model.dtype=float64 keeps everything in double precision: leave"
      " head.storage, head.optimizer_storage and head.precision at float32,"
      " and use another head.implementation than pallas or sparse"
    )


def _check_loss(config: config_lib.Config) -> None:
  head, loss = config.head, config.loss
  over_classes = isinstance(loss, definition.OverClasses)
  binary = over_classes and not loss.has_probabilities
  if head.implementation == "sparse" and binary:
    raise ValueError(
      "head.implementation=sparse is for softmax losses, which"
      f" {config.loss.name} is not: use fused"
    )
  sparse = over_classes and loss.is_sparse
  if sparse and head.implementation in ("partial_fc", "pallas"):
    raise ValueError(
      f"head.implementation={head.implementation}: {loss.name} gives most classes"
      " no probability, exactly: use sparse, or fused to visit all"
    )
  whole = over_classes and loss.needs_table
  if whole and head.implementation != "dense":
    raise ValueError(
      f"head.implementation={head.implementation}: {loss.name} looks at all"
      " cosines at once, [batch, classes]: use dense"
    )


def _check_filter(config: config_lib.Config) -> None:
  head, loss = config.head, config.loss
  name = f"head.interclass_filtering_threshold={head.interclass_filtering_threshold:g}"
  if not isinstance(loss, definition.OverClasses):
    raise ValueError(
      f"{name} leaves classes out, and {loss.name} compares images of a batch:"
      " leave it at 0"
    )
  if loss.needs_table:
    raise ValueError(
      f"{name} leaves classes out of an image's sum over them, and {loss.name}"
      " is no such sum: leave it at 0"
    )
  if head.implementation == "pallas":
    raise ValueError(
      f"{name}: the kernels of head.implementation=pallas take all classes: use"
      " fused"
    )
  if not loss.definition(2).objective.unit_prototypes:
    raise ValueError(
      f"{name} is a cosine, and {loss.name} compares with prototypes of any"
      " length: leave it at 0, or use a loss of cosines such as cosface"
    )
