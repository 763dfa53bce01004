"""The net of a run as it is handed on: its card, its weights, its function."""

import dataclasses
import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from facejax.data.synthetic import faces as synthetic
from facejax.models import functional
from facejax.runs import card as card_lib
from facejax.runs import finished
from facejax.runtime import jit, typing, unit_vectors
from facejax.training import state


@dataclasses.dataclass(frozen=True)
class StoredNet:
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


def read(run: str | os.PathLike[str]) -> StoredNet:
  """Reads the newest sound checkpoint of a run, or of an import.

  Raises:
    FileNotFoundError: if it is no folder of a trained net, or it has no
      checkpoint yet.
    ValueError: if its card is damaged or the checkpoint holds another net.
    OSError: if the checkpoints are damaged.
  """
  card = read_card(run)
  step, trunk = finished.read_trunk(run, like(card, build(card, card.dtype)))
  params, stats = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32), (trunk.verified, trunk.stats)
  )
  return StoredNet(card, step, build(card), params, stats)


def read_card(run: str | os.PathLike[str]) -> card_lib.Card:
  """The card of a net that can be read here.

  Raises:
    FileNotFoundError: if it is no folder of a trained net.
    ValueError: if the card is damaged, or asks for double precision that JAX
      was not told of.
  """
  card = card_lib.read(run)
  if card.dtype == "float64" and not jax.config.read("jax_enable_x64"):
    raise ValueError(
      f"{os.fspath(run)!r} was trained in float64: set JAX_ENABLE_X64=1"
    )
  finished.check(run)
  return card


def like(
  card: card_lib.Card,
  backbone: functional.Backbone,
  sharding: jax.sharding.Sharding | None = None,
) -> state.Trunk:
  """What is wanted of the checkpoint: half of it where weights are averaged."""
  params, stats = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=sharding
    ),
    jax.eval_shape(backbone.init, jax.random.key(0)),
  )
  if card.averaged:
    return state.Trunk(None, stats, average=params)
  return state.Trunk(params, stats)


def build(card: card_lib.Card, dtype: str = "float32") -> functional.Backbone:
  """The net that a card tells of."""
  return functional.build(
    card.net,
    embedding_dim=card.embedding_dim,
    image_size=card.image_size,
    norm=card.norm,  # pyright: ignore[reportArgumentType], checked by Card
    se=card.se,
    dtype=jnp.dtype(dtype),
  )


def example_images(image_size: tuple[int, int], count: int) -> np.ndarray:
  """Generated faces, always the same: uint8 [count, height, width, 3]."""
  faces = synthetic.SyntheticFaces(
    num_identities=count,
    images_per_identity=1,
    seed=0,
    image_size=image_size,
  )
  return np.stack([np.asarray(faces[i]) for i in range(count)])
