"""A trained net as a function: images in, embeddings of length 1 out.

model = facejax.load("runs/cosface-lfw")
embeddings = model.embed(["ada.jpg", "bob.jpg"])
facejax.similarity(embeddings[0], embeddings[1])
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from PIL import Image as pillow

from facejax.data import encoded, orientation
from facejax.data import images as image_lib
from facejax.models import embed as embed_lib
from facejax.models import functional
from facejax.runs import card as card_lib
from facejax.runs import embedding_loop, metrics_file, net, pretrained
from facejax.runs import net as net_lib
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import text_lines, unit_vectors

# A file, its bytes, a picture of Pillow, or uint8 RGB [height, width, 3] or
# grey [height, width].
Image: TypeAlias = (
  str | os.PathLike[str] | bytes | pillow.Image | np.ndarray | jax.Array
)


def load(
  run: str | os.PathLike[str], *, devices: int | None = None
) -> "Embedder":
  """Loads a trained net with all that its images must go through.

  Args:
    run: the folder of a training run, finished or not, or one that weights
      were imported to, or the name of a net of `pretrained`. The newest sound checkpoint is read, and of it the
      average of the weights, if the run keeps one.
    devices: how many devices to compute on; all of them if not given.

  Raises:
    FileNotFoundError: if it is no such folder, or has no checkpoint yet.
    ValueError: if its card is damaged or the checkpoint holds another net.
    OSError: if the checkpoints are damaged.
  """
  run = pretrained.located(run)
  card = net.read_card(run)
  # Of several processes, each embeds by itself: see `embedding_loop`.
  here = jax.local_devices() if jax.process_count() > 1 else None
  mesh = mesh_lib.make_mesh(devices=devices, among=here)
  backbone = net.build(card, card.dtype)
  replicated = mesh_lib.sharding(mesh, mesh_lib.REPLICATED)
  shapes = net.shapes_of(backbone, replicated)
  step, *weights = net_lib.read_weights(run, card, shapes)
  return Embedder(run, card, step, backbone, net_lib.Trunk(*weights), mesh)


class Embedder:
  """A net with the card that says how it wants its images.

  Attributes:
    run: the folder it came from.
    card: what is stored with the weights.
    step: how many training steps they went through.
    threshold: the cosine from which on the run's verification takes two images
      for the same person, with mirror images summed; None if it verified none.
    decides: the same with what is known of it.
    mesh: the devices that a batch is split over.
  """

  def __init__(
    self,
    run: str | os.PathLike[str],
    card: card_lib.Card,
    step: int,
    backbone: functional.Backbone,
    trunk: net_lib.Trunk,
    mesh: jax.sharding.Mesh,
  ):
    self.run = os.path.abspath(run)
    self.card, self.step, self.mesh = card, step, mesh
    self.decides = metrics_file.threshold(run)
    self.threshold = None if self.decides is None else self.decides.cosine
    self._trunk = trunk
    self._functions = {
      flip: embed_lib.make_embed(backbone, mesh=mesh, flip=flip)
      for flip in (False, True)
    }

  def embed(
    self,
    images: Sequence[Image] | np.ndarray | jax.Array,
    *,
    batch_size: int = 128,
    flip: bool = False,
  ) -> np.ndarray:
    """Embeddings of images: float32 [len(images), dim], of length 1.

    Each image is cut and resized as the card says; they may differ in size.

    Args:
      images: files, encoded bytes, pictures of Pillow, or uint8 arrays: RGB
        [height, width, 3] or grey [height, width]; or one array of them,
        [n, height, width, 3].
      batch_size: images at once, over all devices.
      flip: sum the embeddings of each image and of its mirror image, which is
        what verification reports; twice the work.

    Raises:
      ValueError: if an image cannot be read or is no uint8 RGB or grey, or if
        an embedding is zero or not finite.
    """
    if isinstance(images, str | bytes | os.PathLike | pillow.Image):
      raise ValueError(f"embed takes a list of images: embed([{images!r}])")
    shape = getattr(images, "shape", None)
    if shape is not None and (len(shape) != 4 or shape[3] != 3):
      raise ValueError(
        f"images have shape {shape}: give [n, height, width, 3], or a list"
      )
    if batch_size < 1:
      raise ValueError(f"batch_size={batch_size} must be 1 or more")
    size = self.batch_size(min(batch_size, _power_of_two(len(images))))
    read = functools.partial(_image_of, images, self)
    batches = self.embedded(read, range(len(images)), size=size, flip=flip)
    empty = np.empty((0, self.card.embedding_dim), np.float32)
    return np.concatenate([empty, *(found for _, found in batches)])

  def embedded(
    self,
    read: Callable[[int], np.ndarray],
    indices: Sequence[int],
    *,
    size: int,
    flip: bool,
    name: Callable[[int], str] = "image {}".format,
    **options: Any,
  ) -> Iterator[tuple[list[int], np.ndarray]]:
    """Embeds images batch by batch; see `embedding_loop.embedded`.

    Args:
      read: reads an image as the net takes it, see `image`.
      indices: which images.
      size: images at once, a multiple of the devices.
      flip: see `embed`.
      name: of an image, for messages.
      options: `advance` and `unreadable`, see there.

    Yields:
      The indices of a batch, and their embeddings, float32 [n, dim], of
      length 1.

    Raises:
      ValueError: if an image cannot be read, or an embedding is zero or not
        finite.
    """
    for kept, found in embedding_loop.embedded(
      functools.partial(self.features_batch, flip=flip),
      read,
      indices,
      size=size,
      name=name,
      share=True,
      **options,
    ):
      yield (
        kept,
        unit_vectors.unit(
          found, name=lambda row, kept=kept: f"of {name(kept[row])}"
        ),
      )

  def about(self, *, flip: bool) -> dict[str, Any]:
    """What is stored with embeddings of this net, see `embeddings`."""
    return {
      "card": card_lib.net_of(self.card),
      "step": self.step,
      "flip": flip,
      "run": self.run,
      # It is one of mirror images summed.
      "threshold": self.threshold if flip else None,
    }

  def batch_size(self, wanted: int) -> int:
    """The next size that splits evenly over the devices."""
    return -(-wanted // self.mesh.size) * self.mesh.size

  def decoded(self, files: encoded.EncodedImages) -> encoded.Decoded:
    """Images in files as the net takes them, when they are asked for."""
    return encoded.Decoded(
      files,
      image_size=self.card.image_size,
      crop=self.card.crop,
      exif=self.card.exif,
    )

  def image(self, image: Image) -> np.ndarray:
    """One image as the net takes it: uint8 [*card.image_size, 3].

    Raises:
      ValueError: if it cannot be read or is no uint8 RGB or grey.
    """
    return image_lib.fit(
      _pixels(image, self.card.exif),
      image_size=self.card.image_size,
      crop=self.card.crop,
    )

  def features_batch(
    self, images: np.ndarray, *, flip: bool = False
  ) -> np.ndarray:
    """What the net says of images, of any length.

    Args:
      images: uint8 [n, *card.image_size, 3], n a multiple of the devices.
      flip: see `embed`.

    Returns:
      float32 [n, dim].
    """
    return self.computed(self._functions[flip], images)

  def computed(
    self, function: Callable[..., jax.Array], images: np.ndarray
  ) -> np.ndarray:
    """A function of (params, stats, images) with the weights of this net.

    Args:
      function: jitted over the mesh, of a net with the same weights.
      images: see `features_batch`.
    """
    if self.card.colors == "BGR":
      images = np.ascontiguousarray(images[..., ::-1])
    placed = mesh_lib.put_batch({"images": images}, self.mesh)
    return np.asarray(
      function(self._trunk.verified, self._trunk.stats, placed["images"])
    )


def _image_of(images, model: Embedder, index: int) -> np.ndarray:
  try:
    return model.image(images[index])
  except image_lib.BadImageError:
    raise
  except ValueError as error:
    raise ValueError(f"image {index}: {error}") from None


def _pixels(image: Image, exif: orientation.Exif) -> np.ndarray:
  """uint8 RGB [height, width, 3], of any size."""
  if isinstance(image, str | os.PathLike):
    path = os.path.expanduser(os.fspath(image))
    name = text_lines.printable(path)
    return image_lib.decode(encoded.read_file(path), name=name, exif=exif)
  if isinstance(image, bytes):
    return image_lib.decode(image, name="the bytes of an image", exif=exif)
  if isinstance(image, pillow.Image):
    turned = orientation.turned(image) if exif == "apply" else image
    return np.asarray(turned.convert("RGB"))
  pixels = np.asarray(image)
  if pixels.ndim == 2:
    pixels = np.repeat(pixels[:, :, None], 3, axis=2)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
    raise ValueError(
      f"{pixels.dtype} {list(pixels.shape)}; it must be uint8, RGB"
      " [height, width, 3] or grey [height, width], with values 0 to 255"
    )
  if not pixels.size:
    raise ValueError("it has no pixels")
  return pixels


def _power_of_two(count: int) -> int:
  """The next power of two, so that few sizes are compiled."""
  return 1 << max(0, count - 1).bit_length()
