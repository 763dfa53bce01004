"""The nets of the field: published sizes, and what they refuse."""

import jax
import pytest
from helpers import tiny_nets

from facejax.models import functional, registry

SQUARE, TALL = (112, 112), (112, 96)

# Net, image size, dim -> parameters, multiply-adds in millions. Those of ViTs
# hold attention's, without which InsightFace's own count is 1377, 5492, 10928.
PUBLISHED = {
  ("sphereface4", TALL, 512): (12_562_496, 164.3),
  ("sphereface10", TALL, 512): (15_219_264, 758.8),
  ("sphereface20", TALL, 512): (22_670_656, 1749.7),
  ("sphereface36", TALL, 512): (32_778_816, 3335.2),
  ("sphereface62", TALL, 512): (47_905_088, 5911.5),
  ("sphereface64", TALL, 512): (48_200_512, 6109.7),
  ("sphereface4", SQUARE, 512): (14_397_504, 191.7),
  ("sphereface10", SQUARE, 512): (17_054_272, 885.3),
  ("sphereface20", SQUARE, 512): (24_505_664, 2041.4),
  ("sphereface36", SQUARE, 512): (34_613_824, 3891.0),
  ("sphereface64", SQUARE, 512): (50_035_520, 7128.0),
  ("mobilefacenet", SQUARE, 512): (1_200_512, 221.2),
  ("mbf", SQUARE, 512): (2_059_520, 437.5),
  ("mbf_large", SQUARE, 512): (6_314_880, 1816.5),
  ("vit_t", SQUARE, 512): (19_137_792, 1504.9),
  ("vit_s", SQUARE, 512): (76_023_296, 5746.5),
  ("vit_b", SQUARE, 512): (113_833_472, 11437.2),
  ("vit_l", SQUARE, 512): (255_684_352, 25337.8),
  ("vit_h", SQUARE, 512): (756_393_984, 89198.9),
  ("vit_s_p8", SQUARE, 512): (95_952_896, 9174.8),
  ("vit_b_p8", SQUARE, 512): (114_870_272, 13346.3),
  ("ir18", SQUARE, 512): (24_020_352, 2597.1),
  ("ir50", SQUARE, 512): (43_585_600, 6296.5),
  ("ir101", SQUARE, 512): (65_150_912, 12076.8),
  ("ir50_evolve", SQUARE, 512): (43_574_976, 6296.5),
  # 27,910,327 with the 8,631 classes of its released weights.
  ("inception_resnet_v1", (160, 160), 512): (23_482_624, 1417.7),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  for name, spec in tiny_nets.TINY.items():
    monkeypatch.setitem(registry.SPECS, name, spec)


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_published_sizes(case):
  name, size, dim = case
  net = tiny_nets.build(name, dim=dim, size=size)
  count, millions = PUBLISHED[case]
  assert functional.count(tiny_nets.abstract(net)[0]) == count
  assert net.multiply_adds / 1e6 == pytest.approx(millions, abs=0.06)


def test_mobilefacenet_is_the_papers():
  net = tiny_nets.build("mobilefacenet", dim=128, size=SQUARE)
  params, _ = tiny_nets.abstract(net)
  assert net.multiply_adds / 1e6 == pytest.approx(221, abs=0.1)
  assert functional.count(params) == 1_003_136
  # "0.99 million parameters" are those that are left once the scales of
  # BatchNorm are folded into the convolutions before them.
  scales = sum(
    leaf.size
    for path, leaf in jax.tree.leaves_with_path(params)
    if path[-1].key == "scale"
  )
  assert functional.count(params) - scales == 993_344


def test_squeeze_and_excitation_adds_its_two_layers():
  plain, with_se = (
    tiny_nets.build("iresnet50", dim=512, size=SQUARE, se=se)
    for se in (False, True)
  )
  blocks = zip((3, 4, 14, 3), (64, 128, 256, 512), strict=True)
  added = sum(count * 2 * width * width // 16 for count, width in blocks)
  assert added == 222_720
  before, after = (
    functional.count(tiny_nets.abstract(x)[0]) for x in (plain, with_se)
  )
  assert after - before == added
  assert with_se.multiply_adds - plain.multiply_adds == added


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("tiny_iresnet", {"se": True}),
    ("tiny_sphereface", {}),
    ("tiny_mobilefacenet", {}),
    ("mbf_large", {}),
    ("tiny_vit", {}),
  ],
)
def test_multiply_adds_are_those_of_the_graph(name, options):
  net = tiny_nets.build(name, **options)
  graph = tiny_nets.equations(tiny_nets.forward(net))
  total = sum(map(tiny_nets.multiply_adds, graph))
  assert total == net.multiply_adds


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("vit_t", {"se": True}, "'vit_t' has no se=True.*'iresnet50'"),
    ("mbf", {"drop_path": 0.1}, "'mbf' has no drop_path=0.1.*'vit_h'"),
    ("iresnet18", {"mask_ratio": 0.1}, "'iresnet18' has no mask_ratio.*vit_t"),
    ("nn2", {"remat": True}, "'nn2' has no remat=True.*'sphereface20'"),
    ("vit_t", {"norm": "lrn"}, "'vit_t' has no norm='lrn'"),
    ("vit_t", {"size": (8, 32)}, "'vit_t'.*at least 9"),
    ("sphereface20", {"size": (15, 32)}, "'sphereface20'.*at least 16"),
    ("mbf", {"size": (32, 15)}, "'mbf'.*at least 16"),
    ("inception_resnet_v1", {"size": (74, 80)}, "at least 75"),
  ],
)
def test_what_a_net_does_not_take_is_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    tiny_nets.build(name, **options)
  if "size" in options:
    with pytest.raises(ValueError, match=message):
      functional.check_image_size(name, options["size"])
  else:
    with pytest.raises(ValueError, match=message):
      functional.check_options(name, **{"norm": "batch"} | options)
