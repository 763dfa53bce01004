"""The weights of dlib's face net, from its file's layers to `dlib_resnet`'s.

They are made for pixels as (x - 127.5) / 127.5, as all nets here take them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from facejax.models import dlib_resnet, functional
from facejax.runtime import dlib_file, typing

# dlib's pixels enter as (x - mean) / 256, with a mean for each channel.
_DLIB_SCALE = 256.0

_Expected = tuple[str, tuple[int, ...]]


def expected(
  spec: dlib_resnet.DlibResNetSpec, embedding_dim: int
) -> Iterator[_Expected]:
  """The layers of the file, in order: name and numbers."""
  width = spec.widths[0]
  yield "con_4", (width, 7, 7, 2, 2, 0, 0)
  yield from (
    ("affine_", ()),
    ("relu_", ()),
    ("max_pool_2", (3, 3, 2, 2, 0, 0)),
  )
  for _, width, stride in spec.rows():
    pad = 1 if stride == 1 else 0
    yield "con_4", (width, 3, 3, stride, stride, pad, pad)
    yield from (("affine_", ()), ("relu_", ()))
    yield "con_4", (width, 3, 3, 1, 1, 1, 1)
    yield "affine_", ()
    if stride == 2:
      yield "avg_pool_2", (2, 2, 2, 2, 0, 0)
    yield from (("add_prev_", ()), ("relu_", ()))
  yield "avg_pool_2", (0, 0, 1, 1, 0, 0)
  yield "fc_2", (width, embedding_dim)


def params(
  stored: dlib_file.StoredNet, *, net: str = "dlib_resnet29"
) -> typing.Params:
  """The parameters of `net`; it has no statistics.

  A convolution's bias b and the affine layer a y + t behind it become one term:
  a (w * x + b) + t = a (w * x) + (a b + t).

  Raises:
    ValueError: naming the first layer that is another.
  """
  spec = dlib_resnet.NETS[net]
  dim = stored.layers[-1].numbers[-1] if stored.layers else 0
  _check(stored, [*expected(spec, dim)])
  learnt = iter([x for x in stored.layers if x.name in ("con_4", "affine_")])
  mean = np.asarray(stored.mean)
  stem, affine = _pair(learnt, 3, mean=mean)
  blocks = {}
  for k, (before, width, _) in enumerate(spec.rows()):
    conv1, affine1 = _pair(learnt, before)
    conv2, affine2 = _pair(learnt, width)
    blocks[k] = {
      "conv1": conv1,
      "affine1": affine1,
      "conv2": conv2,
      "affine2": affine2,
    }
  kernel = stored.layers[-1].values.reshape(spec.widths[-1], dim)
  return {
    "stem": stem,
    "affine": affine,
    "blocks": blocks,
    "linear": {"kernel": kernel},
  }


def _check(stored: dlib_file.StoredNet, wanted: list[_Expected]) -> None:
  found = [(layer.name, layer.numbers) for layer in stored.layers]
  for k, (one, other) in enumerate(zip(found, wanted, strict=False)):
    if one != other:
      raise ValueError(
        f"layer {k} is {one[0]} {one[1]}, where dlib's face net has {other[0]}"
        f" {other[1]}"
      )
  if len(found) != len(wanted):
    raise ValueError(
      f"{len(found)} layers, where dlib's face net has {len(wanted)}"
    )


def _pair(
  layers: Iterator[dlib_file.StoredLayer],
  before: int,
  *,
  mean: np.ndarray | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
  """The next convolution, and the affine layer behind it with its bias."""
  conv, affine = next(layers), next(layers)
  width, height, columns = conv.numbers[:3]
  size = width * before * height * columns
  if conv.values.size != size + width or affine.values.size != 2 * width:
    raise ValueError(
      f"a convolution of {conv.values.size:,} values and an affine layer of"
      f" {affine.values.size:,}, where {before} channels become {width}"
    )
  kernel = conv.values[:size].reshape(width, before, height, columns)
  bias = conv.values[size:].astype(np.float64)
  if mean is not None:
    # With y = (x - 127.5) / 127.5 as it comes,
    # w * (x - mean) / 256 = w 127.5 / 256 * y + sum(w) (127.5 - mean) / 256:
    # exactly, as the first convolution sees no pixel beyond the image.
    shift, scale = functional.PIXEL_MEAN - mean, functional.PIXEL_SCALE
    bias += kernel.astype(np.float64).sum((2, 3)) @ shift / _DLIB_SCALE
    kernel = kernel * np.float32(scale / _DLIB_SCALE)
  factor, term = np.split(affine.values.astype(np.float64), 2)
  return (
    {"kernel": np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))},
    {
      "scale": factor.astype(np.float32),
      "bias": (factor * bias + term).astype(np.float32),
    },
  )
