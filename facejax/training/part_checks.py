"""Checks of the parts that a batch is cut into: accumulation, BatchNorm's groups."""

from facejax.models import functional
from facejax.training import config as config_lib


def check(config: config_lib.Config) -> None:
  """What the net sees at once must divide what it is cut from.

  Raises:
    ValueError: with the sizes that do, or if a net would see single images.
  """
  size, parts, group = (
    config.batch_size,
    config.accumulate,
    config.model.bn_group,
  )
  if size % parts:
    raise ValueError(
      f"accumulate={parts} must divide batch_size={size} into equal parts"
    )
  part = size // parts
  if group and part % group:
    of_part = "batch_size" if parts == 1 else "batch_size / accumulate"
    raise ValueError(
      f"model.bn_group={group} must divide {of_part}, {part}, into equal groups;"
      f" those of {', '.join(map(str, _divisors(part)))} images do"
    )
  if config.model.bn_frozen:
    _check_frozen(config)
  elif (group or part) == 1:
    _check_one_image(config)


def _check_frozen(config: config_lib.Config) -> None:
  if config.model.bn_group:
    raise ValueError(
      f"model.bn_frozen and model.bn_group={config.model.bn_group}: frozen"
      " statistics are of no group; take one of them"
    )
  if not config.init_from:
    raise ValueError(
      "model.bn_frozen without init_from: the statistics of a new net are those"
      " of nothing; name the run to start from (--init-from)"
    )


def _divisors(number: int) -> list[int]:
  return [n for n in range(2, number + 1) if number % n == 0]


def _check_one_image(config: config_lib.Config) -> None:
  model = config.model
  backbone = functional.build(
    model.name,
    embedding_dim=model.embedding_dim,
    image_size=config.data.image_size,
    norm=model.norm,
    se=model.se,
  )
  try:
    functional.check_batch(backbone, 1)
  except ValueError as error:
    name = "batch_size=1"
    if config.model.bn_group:
      name = "model.bn_group=1"
    elif config.accumulate > 1:
      name = f"accumulate={config.accumulate} leaves 1 image"
    raise ValueError(f"{name}: {error}") from None
