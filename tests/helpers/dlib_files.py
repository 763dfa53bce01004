"""Files as dlib stores a face net, of any size and with any numbers in them."""

import math

import numpy as np

from facejax.models import dlib_weights

MEAN = (122.782, 117.001, 104.298)


def integer(value):
  size = (abs(value).bit_length() + 7) // 8 or 1
  head = size | (0x80 if value < 0 else 0)
  return bytes([head]) + abs(value).to_bytes(size, "little")


def text(value):
  return integer(len(value)) + value.encode()


def number(value):
  mantissa, exponent = math.frexp(value)
  return integer(int(mantissa * 2**24)) + integer(exponent - 24)


def tensor(values, *sides):
  sides = (*sides, 1, 1, 1, 1)[:4]
  return (
    b"".join(map(integer, (2, *sides))) + np.asarray(values, "<f4").tobytes()
  )


def _shape(*sides):
  return b"".join(map(integer, (1, *(*sides, 1, 1, 1, 1)[:4])))


def _tail(first=False):
  nothing = b"".join(map(integer, (2, 0, 0, 0, 0)))
  return b"110" + 3 * nothing + (integer(1) if first else b"")


RATES = b"".join(map(number, (1.0, 1.0, 1.0, 0.0)))


def stored(spec, *, dim=8, size=150, seed=0):
  """The bytes of a net of this spec, and its layers (name, numbers, values)."""
  rng = np.random.default_rng(seed)
  parts = [integer(1), text("loss_metric_2"), number(0.04), number(0.6)]
  expected = list(dlib_weights.expected(spec, dim))
  parts += [integer(2)] * len(expected) + [integer(3)]
  parts += [text("input_rgb_image_sized"), *map(number, MEAN)]
  parts += [integer(size), integer(size)]
  layers, channels = [], 3
  for k, (name, numbers) in enumerate(expected):
    values = np.zeros(0, np.float32)
    parts.append(text(name))
    if name == "con_4":
      width, height, columns = numbers[:3]
      count = width * channels * height * columns
      spread = 1 / math.sqrt(count / width)
      values = rng.normal(0, spread, count + width).astype(np.float32)
      parts += [tensor(values, len(values)), *map(integer, numbers)]
      parts += [_shape(width, channels, height, columns), _shape(1, width)]
      parts.append(RATES)
      channels = width
    elif name == "affine_":
      factor = rng.uniform(0.5, 1.5, channels)
      values = np.concatenate([factor, rng.normal(0, 0.2, channels)])
      values = values.astype(np.float32)
      parts += [tensor(values, len(values)), _shape(1, channels)]
      parts += [_shape(1, channels), integer(0)]
    elif name == "fc_2":
      inputs, outputs = numbers
      values = rng.normal(0, 0.3, inputs * outputs).astype(np.float32)
      parts += [integer(outputs), integer(inputs)]
      parts += [tensor(values, inputs, outputs), _shape(inputs, outputs)]
      parts += [_shape(0, 0, 0, 0), integer(1), RATES]
    elif name.endswith("pool_2"):
      parts += map(integer, numbers)
    parts.append(_tail(first=k == 0))
    layers.append((name, numbers, values))
  return b"".join(parts), layers


def embed(layers, images, *, mean=MEAN):
  """The net itself, in double precision, layer by layer as dlib goes.

  Args:
    layers: of `stored`.
    images: uint8 [batch, height, width, 3].
  """
  import torch
  from torch.nn import functional as F

  x = (torch.tensor(images, dtype=torch.float64) - torch.tensor(mean)) / 256
  x = x.permute(0, 3, 1, 2)
  unit = beside = x
  for k, (name, numbers, values) in enumerate(layers):
    learnt = torch.tensor(values, dtype=torch.float64)
    if name == "con_4":
      if (
        layers[k - 1][0] in ("relu_", "max_pool_2")
        and layers[k - 3][0] != "con_4"
      ):
        unit = x  # a unit begins
      width, height, columns, stride, _, pad, _ = numbers
      kernel = learnt[:-width].reshape(width, -1, height, columns)
      x = F.conv2d(x, kernel, learnt[-width:], stride=stride, padding=pad)
    elif name == "affine_":
      factor, term = learnt.chunk(2)
      x = x * factor[:, None, None] + term[:, None, None]
    elif name == "relu_":
      x = x.relu()
    elif name == "max_pool_2":
      x = F.max_pool2d(x, 3, 2)
    elif name == "avg_pool_2" and numbers[0]:
      beside = F.avg_pool2d(unit, 2, 2)
    elif name == "avg_pool_2":
      x = x.mean((2, 3))
    elif name == "add_prev_":
      other = beside if layers[k - 1][0] == "avg_pool_2" else unit
      x = _sum(x, other)
    else:
      x = x @ learnt.reshape(numbers)
  return x.numpy()


def _sum(a, b):
  """Their sum where zeros stand behind what one of them has not."""
  import torch

  whole = torch.zeros(
    [max(p) for p in zip(a.shape, b.shape, strict=True)], dtype=a.dtype
  )
  for x in (a, b):
    whole[tuple(slice(n) for n in x.shape)] += x
  return whole
