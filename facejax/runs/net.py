"""The net of a run: its card, its weights, its function.

A training run keeps its net within the state of its checkpoints, an import of
weights as a state that has nothing else. Both are read here.
"""

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from facejax.models import functional, lora, own
from facejax.runs import card as card_lib
from facejax.runs import checkpoint, folder, pretrained
from facejax.runtime import jit, typing, unit_vectors

logger = logging.getLogger(__name__)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trunk:
  """The net's part of a train state, at the same paths; or part of that.

  Attributes:
    params: the weights; None where their average alone is wanted.
    stats: the running statistics.
    average: a running average of the weights, or None.
  """

  params: typing.Params | None
  stats: typing.Params
  average: typing.Params | None = None

  @property
  def verified(self) -> typing.Params:
    """The weights to embed with: the average, if there is one."""
    return self.params if self.average is None else self.average


@dataclasses.dataclass(frozen=True)
class TrainedNet:
  """A net with its weights, in float32.

  Attributes:
    card: what is stored with the weights.
    step: how many training steps they went through.
    backbone: the net.
    params: its weights; their average, if the run keeps one.
    stats: its running statistics.
  """

  card: card_lib.Card
  step: int
  backbone: functional.Backbone
  params: typing.Params
  stats: typing.Params

  def embed(self, images: typing.Array) -> typing.Array:
    """uint8 RGB [batch, height, width, 3] to embeddings of length 1."""
    return unit_vectors.l2_normalize(self._apply(images))

  def features(self, images: typing.Array) -> typing.Array:
    """Images that are already (x - 127.5) / 127.5, to embeddings as they are."""
    return self._apply(images * functional.PIXEL_SCALE + functional.PIXEL_MEAN)

  @functools.cached_property
  def compiled(self) -> Callable[..., jax.Array]:
    """(params, stats, images) -> embeddings of length 1, compiled once."""

    def embed(params, stats, images):
      return dataclasses.replace(self, params=params, stats=stats).embed(images)

    return jit.jit(embed)

  def _apply(self, images: typing.Array) -> typing.Array:
    if self.card.colors == "BGR":
      images = jnp.flip(images, -1)
    embeddings, _ = self.backbone.apply(
      self.params, self.stats, images, train=False
    )
    return embeddings


def read(run: str | os.PathLike[str]) -> TrainedNet:
  """Reads the newest sound checkpoint of a run, or of an import.

  Raises:
    FileNotFoundError: if it is no folder of a trained net, or it has no
      checkpoint yet.
    ValueError: if its card is damaged or the checkpoint holds another net.
    OSError: if the checkpoints are damaged.
  """
  run = pretrained.located(run)
  card = read_card(run)
  shapes = shapes_of(build(card, card.dtype))
  step, *weights = read_weights(run, card, shapes)
  params, stats = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32), weights
  )
  return TrainedNet(card, step, build(card), params, stats)


def read_card(run: str | os.PathLike[str]) -> card_lib.Card:
  """The card of a net that can be read here.

  Raises:
    FileNotFoundError: if it is no folder of a trained net.
    ValueError: if the card is damaged, or asks for double precision that JAX
      was not told of.
  """
  run = pretrained.located(run)
  card = card_lib.read(run)
  if card.dtype == "float64" and not jax.config.read("jax_enable_x64"):
    raise ValueError(
      f"{os.fspath(run)!r} was trained in float64: set JAX_ENABLE_X64=1"
    )
  require(run)
  return card


def read_trunk(run: str | os.PathLike[str], like: Trunk) -> tuple[int, Trunk]:
  """The net of a run, be it finished or not: its newest sound checkpoint.

  Args:
    run: the folder.
    like: the arrays that are wanted, as `ShapeDtypeStruct`s.

  Returns:
    After how many steps, and the net.

  Raises:
    FileNotFoundError: if there is no checkpoint.
    OSError: if none can be read.
    ValueError: if it is another net.
  """
  require(run)
  with checkpoint.Checkpoints(pathlib.Path(run, folder.CHECKPOINTS)) as source:
    restored = source.restore(like, partial=True)
  if restored is None:
    raise FileNotFoundError(
      f"{os.fspath(run)!r} has no checkpoint yet: train it first"
    )
  return restored.step, restored.state


def read_weights(
  run: str | os.PathLike[str],
  card: card_lib.Card,
  shapes: tuple[typing.Params, typing.Params],
) -> tuple[int, typing.Params, typing.Params]:
  """The weights to embed with: the run's average of them, if it keeps one.

  Adapters are merged: what is read is a net without.

  Args:
    run: the folder.
    card: of the run.
    shapes: weights and running statistics of that net, as `ShapeDtypeStruct`s.

  Returns:
    After how many steps, the weights, and the running statistics.

  Raises:
    FileNotFoundError, OSError, ValueError: as `read_trunk`.
  """
  run = pretrained.located(run)
  params, stats = shapes
  if card.lora:
    params = lora.like(params, rank=card.lora)
  # Of a checkpoint with both, the weights themselves are not read.
  like = Trunk(None, stats, params) if card.averaged else Trunk(params, stats)
  step, trunk = read_trunk(run, like)
  weights = trunk.verified
  if card.lora:
    merge = functools.partial(lora.merged, alpha=card.lora_alpha)
    weights = jit.jit(merge)(weights)
  return step, weights, trunk.stats


def require(run: str | os.PathLike[str]) -> None:
  """Refuses a folder without checkpoints.

  Raises:
    FileNotFoundError: if it is none of a run, or the run has saved nothing.
  """
  if not folder.has_begun(run):
    raise FileNotFoundError(
      f"{os.fspath(run)!r} is not the folder of a trained net: it has no"
      f" {folder.CHECKPOINTS}/"
    )


def warn_of_pixels(run: str | os.PathLike[str]) -> None:
  """Says it where a net takes other pixels than training feeds it."""
  card = card_lib.read(pretrained.located(run))
  usual = f"(x - {functional.PIXEL_MEAN:g}) / {functional.PIXEL_SCALE:g}"
  if card.colors != "RGB" or card.pixels != usual:
    logger.warning(
      "the net in %s takes %s images, pixels as %s; training goes on with RGB"
      " and %s, which it has to get used to",
      *(os.fspath(run), card.colors, card.pixels, usual),
    )


def shapes_of(
  backbone: functional.Backbone, sharding: jax.sharding.Sharding | None = None
) -> tuple[typing.Params, typing.Params]:
  """Weights and running statistics of a net, as `ShapeDtypeStruct`s."""
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    jax.eval_shape(backbone.init, jax.random.key(0)),
  )


def build(
  card: card_lib.Card, dtype: str = "float32", *, dropout: float = 0.0
) -> functional.Backbone:
  """The net that a card tells of.

  Args:
    card: of the net.
    dtype: arithmetic of the trunk.
    dropout: rate before the last linear layer, for whoever gives it a key.

  Raises:
    ValueError: if it is unknown, or code that only the card asks for.
  """
  own.check_trusted(card.net)
  return functional.build(
    card.net,
    embedding_dim=card.embedding_dim,
    image_size=card.image_size,
    dropout=dropout,
    norm=card.norm,  # pyright: ignore[reportArgumentType], checked by Card
    se=card.se,
    dtype=jnp.dtype(dtype),
    pixel_mean=card.pixel_mean,
    pixel_scale=card.pixel_scale,
  )
