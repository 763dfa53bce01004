"""Files as dlib stores a face net, of any size, for `fuzz_samples.py` and tests."""

import math

import numpy as np

from facejax.models import dlib_resnet, dlib_weights

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


def nets() -> list[dict[str, bytes]]:
  """A small net."""
  spec = dlib_resnet.DlibResNetSpec((1, 1), (4, 6))
  whole, _ = stored(spec)
  return [{"net.dat": whole}]
