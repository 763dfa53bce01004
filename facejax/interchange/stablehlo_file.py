"""One file of StableHLO for CPUs, GPUs and TPUs, with `jax.export`.

Whoever serves it needs JAX alone:

  program = jax.export.deserialize(pathlib.Path("model.stablehlo").read_bytes())
  embeddings = program.call(images)

Such a file does not last: JAX promises to read what versions of the last six
months wrote, and what versions up to three weeks newer did.

References:
  JAX's documentation, "Exporting and serializing staged-out computations",
    compatibility guarantees.
"""

import datetime
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from facejax.runtime import extras

PLATFORMS = ("cpu", "cuda", "tpu")
# Of a release of JAX: how much newer one must still read its files, and how
# much older one can.
_NEWER, _OLDER = datetime.timedelta(days=182), "three weeks"


def write(
  path: pathlib.Path,
  function: Callable[[jax.Array], jax.Array],
  image_size: tuple[int, int],
) -> None:
  """Writes a function of uint8 images [batch, height, width, 3].

  Args:
    path: the file.
    function: holds the weights.
    image_size: height and width.

  Raises:
    ImportError: without flatbuffers.
  """
  _check_extra()
  (batch,) = jax.export.symbolic_shape("batch")
  images = jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.uint8)
  exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(images)
  path.write_bytes(exported.serialize())


def lasts() -> dict[str, str]:
  """By which versions of JAX a file that is written now can be read."""
  # That JAX was released before today: what it promises ends no later.
  last = datetime.datetime.now(datetime.UTC).date() + _NEWER
  return {
    "readable_until": last.isoformat(),
    "readable_by": f"JAX {jax.__version__}, releases up to six months newer (of"
    f" {last.isoformat()} at the latest) and up to {_OLDER} older; others may"
    " refuse it. To keep a net, export it as onnx or safetensors.",
  }


def run(path: pathlib.Path, images: np.ndarray) -> np.ndarray:
  """What a file makes of images."""
  _check_extra()
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  return np.asarray(exported.call(images))


def _check_extra() -> None:
  with extras.needed():
    import flatbuffers  # noqa: F401
