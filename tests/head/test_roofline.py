"""The floor of a step, by hand."""

import pytest
from helpers import heads

from facejax.head import api, roofline
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import topology

H100 = next(chip for chip in topology.CHIPS if chip.name == "h100")
V5E = next(chip for chip in topology.CHIPS if chip.name == "v5e")
PRODUCT = 2 * 1024 * 512 * 100_000


@pytest.mark.parametrize(
  ("chip", "options", "seconds"),
  [
    (H100, {}, 4 * PRODUCT / 67e12),
    (H100, {"precision": "bfloat16"}, 4 * PRODUCT / 989e12),
    (H100, {"precision": "float8"}, (2 / 1979e12 + 2 / 989e12) * PRODUCT),
    (V5E, {"precision": "float8"}, 4 * PRODUCT / 197e12),
    (
      H100,
      {"precision": "float8", "implementation": "sparse", "rate": 0.1},
      # Logits of all, then of a tenth and the batch's, and two of the gradient.
      ((1 + 0.11024) / 1979e12 + 2 * 0.11024 / 989e12) * PRODUCT,
    ),
  ],
)
def test_products(chip, options, seconds):
  mesh = mesh_lib.make_mesh(devices=1)
  head = api.Head(heads.COSFACE, 100_000, mesh, **options)
  floor = roofline.floor(head, dim=512, batch=1024, state_bytes=0, chip=chip)
  assert floor.products == pytest.approx(seconds)
