"""Nets of other projects, by their own names: the same embeddings here."""

import numpy as np
import pytest

from facejax import convert
from facejax.interchange import layouts, recognition, state_dicts
from facejax.models import inception_resnet_rows, ir, iresnet, registry, vit
from facejax.runs import net as net_lib

more = pytest.importorskip(
  "helpers.torch_more_nets", reason="needs the bench extra"
)
torch_nets, torch = more.torch_nets, more.torch
SIZE, DIM = (32, 48), 24
BLOCKS = (2, 1, 1, 1)
WIDTHS = (16, 32, 48, 64)
SMALL = {"dim": DIM, "image_size": SIZE}
# Of what is compared, in shares of the largest value.
TOLERANCE = 1e-5

# Small members of the families, so that they compile soon.
TINY = {
  "tiny_iresnet": iresnet.IResNetSpec(BLOCKS, WIDTHS),
  "tiny_ir": ir.IRSpec(BLOCKS, WIDTHS),
  "tiny_evolve": ir.IRSpec(
    BLOCKS, WIDTHS, inner_bn=False, embedding_scale=True, embedding_bias=True
  ),
  "tiny_facenet": inception_resnet_rows.InceptionResNetSpec((1, 1, 1)),
  "tiny_vit": vit.ViTSpec(32, 2, heads=4, patch=8, mlp_ratio=3),
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  for name, spec in TINY.items():
    monkeypatch.setitem(registry.SPECS, name, spec)
  nets = (*registry.NETS, *TINY)
  monkeypatch.setattr("facejax.models.functional.NETS", nets)


def images(size=SIZE):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)


def converted(saved, folder, net, *more_arguments, size=SIZE):
  """The net that `facejax.convert` makes of what `torch.save` wrote."""
  torch.save(saved, folder / "weights.pt")
  arguments = [str(folder / "weights.pt"), "--net", net]
  arguments += ["--image-size", *map(str, size)] if size else []
  arguments += ["--workdir", str(folder / "run"), *map(str, more_arguments)]
  assert convert.main(arguments) == 0
  return net_lib.read(folder / "run")


def assert_same(net, twin, *, scale=127.5, mean=127.5, bgr=False, size=SIZE):
  """The embeddings of uint8 RGB images, as a user of either would have them."""
  pixels = images(size)[..., ::-1] if bgr else images(size)
  pixels = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()
  with torch.no_grad():
    expected = twin.eval()((pixels - mean) / scale).numpy()
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  found = np.asarray(net.compiled(net.params, net.stats, images(size)))
  atol = TOLERANCE * np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def dictionary(twin, prefix=""):
  return {f"{prefix}{name}": x for name, x in twin.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "features.module."])
def test_magface(prefix, tmp_path, capsys):
  twin = torch_nets.randomized(more.magface(BLOCKS, widths=WIDTHS, **SMALL))
  assert twin.features.weight.min() < 0.99
  for module in twin.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_var *= 0.1  # where epsilon counts
  saved = {"epoch": 3, "state_dict": dictionary(twin, prefix)}
  saved["state_dict"]["fc_of_classes.weight"] = torch.zeros(10, DIM)
  net = converted(saved, tmp_path, "tiny_iresnet")
  assert_same(net, twin)
  notes = capsys.readouterr().err
  assert "epsilon is taken to be 2e-5" in notes
  assert "--colors BGR --pixel-mean 0 --pixel-scale 255" in notes
  assert "fc_of_classes.weight" in notes and "left out" in notes


def test_magfaces_pixels_as_its_own_code_feeds_them(tmp_path):
  twin = torch_nets.randomized(more.magface(BLOCKS, widths=WIDTHS, **SMALL))
  net = converted(
    twin.state_dict(), tmp_path, "tiny_iresnet",
    "--colors", "BGR", "--pixel-mean", 0, "--pixel-scale", 255,
  )  # fmt: skip
  assert_same(net, twin, mean=0, scale=255, bgr=True)
  assert (net.card.pixel_mean, net.card.pixel_scale) == (0, 255)


def test_another_epsilon_of_arcface_torch(tmp_path):
  twin = more.magface(BLOCKS, widths=WIDTHS, **SMALL)
  twin.features.weight.requires_grad = False
  twin = torch_nets.randomized(twin)
  for module in twin.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_var *= 0.1
  arguments = ("--bn-epsilon", "2e-5")
  net = converted(twin.state_dict(), tmp_path, "tiny_iresnet", *arguments)
  assert_same(net, twin)


def test_elasticface(tmp_path):
  twin = torch_nets.IResNet(BLOCKS, widths=WIDTHS, se=True, **SMALL)
  torch_nets.randomized(twin)
  net = converted(more.elasticface(twin), tmp_path, "tiny_iresnet")
  assert net.card.se
  assert_same(net, twin)


@pytest.mark.parametrize("se", [False, True])
def test_adaface(se, tmp_path, capsys):
  twin = torch_nets.randomized(more.IR(BLOCKS, widths=WIDTHS, se=se, **SMALL))
  saved = dictionary(twin, "model.") | {
    "head.kernel": torch.zeros(DIM, 30),
    "head.batch_mean": torch.zeros(1),
  }
  # What Lightning keeps beside: a class by name, which nothing needs.
  saved = {"callbacks": {torch.nn.Module: {}}, "state_dict": saved}
  net = converted(saved, tmp_path, "tiny_ir")
  assert net.card.colors == "BGR" and net.card.se == se
  assert_same(net, twin, bgr=True)
  notes = capsys.readouterr().err
  assert "begin with 'model.'; left out head.kernel, head.batch_mean" in notes
  assert "--colors RGB" in notes


def test_adafaces_net_where_the_iresnet_was_asked_for(tmp_path, capsys):
  twin = torch_nets.randomized(more.IR(BLOCKS, widths=WIDTHS, **SMALL))
  colors = ("--colors", "RGB")
  net = converted(dictionary(twin), tmp_path, "tiny_iresnet", *colors)
  assert net.card.net == "tiny_ir"
  assert_same(net, twin)
  assert "net 'tiny_ir', whose names these are" in capsys.readouterr().err


@pytest.mark.parametrize("se", [False, True])
def test_insightface_pytorch(se, tmp_path, capsys):
  twin = more.IR(BLOCKS, widths=WIDTHS, se=se, evolve=True, **SMALL)
  net = converted(
    dictionary(torch_nets.randomized(twin)), tmp_path, "tiny_evolve"
  )
  assert net.card.se == se and net.card.colors == "RGB"
  assert_same(net, twin)
  assert "RGB or BGR" in capsys.readouterr().err


def test_cvlface(tmp_path):
  twin = torch_nets.randomized(more.IR(BLOCKS, widths=WIDTHS, **SMALL))
  net = converted(dictionary(twin, "model.net."), tmp_path, "tiny_ir")
  assert net.card.colors == "RGB"
  assert_same(net, twin)


def test_cvlfaces_vit_trained_without_masks(tmp_path):
  twin = torch_nets.ViT(32, 2, heads=4, patch=8, ratio=3, **SMALL)
  saved = dictionary(torch_nets.randomized(twin), "net.")
  del saved["net.mask_token"]
  net = converted(saved, tmp_path, "tiny_vit")
  assert_same(net, twin)


def test_facenet_pytorch(tmp_path, capsys):
  twin = more.InceptionResnetV1(dim=DIM, classes=7, repeats=(1, 1, 1))
  torch_nets.randomized(twin)
  size = (75, 91)
  net = converted(dictionary(twin), tmp_path, "tiny_facenet", size=size)
  assert net.card.pixel_scale == 128
  assert_same(net, twin, scale=128, size=size)
  notes = capsys.readouterr().err
  assert "weights of classes: logits.bias, logits.weight" in notes
  assert "(x - 127.5) / 128" in notes


def test_the_card_of_facenet_pytorch_is_for_160_pixels():
  assert recognition.image_size("inception_resnet_v1") == (160, 160)
  assert recognition.image_size("ir50") == (112, 112)


@pytest.mark.parametrize(
  ("wrap", "note"),
  [
    (lambda saved: {"net": saved, "epoch": 3}, "state dict 'net'"),
    (lambda saved: {"weights": saved, "epoch": 3}, "state dict 'weights'"),
    (
      lambda saved: {
        "state_dict": {"conv1.weight": 0},
        "state_dict_ema": saved,
      },
      "'state_dict_ema', the averaged",
    ),
    (
      lambda saved: {f"_orig_mod.{k}": x for k, x in saved.items()},
      "_orig_mod",
    ),
    (
      lambda saved: {f"module._orig_mod.{k}": x for k, x in saved.items()},
      "_orig_mod",
    ),
    (
      lambda saved: {
        "state_dict": {f"backbone.{k}": x for k, x in saved.items()}
      },
      "begin with 'backbone.'",
    ),
  ],
)
def test_what_lies_around_a_state_dict(wrap, note, tmp_path):
  saved = {"layer1.0.conv1.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
  torch.save(wrap(saved), tmp_path / "x.pt")
  found = state_dicts.read(tmp_path / "x.pt")
  assert {name: x.tolist() for name, x in found.arrays.items()} == {
    name: x.tolist() for name, x in saved.items()
  }
  (said,) = found.notes
  assert note in said


def test_two_nets_side_by_side_are_not_guessed_between(tmp_path):
  one = {"layer1.0.conv1.weight": torch.ones(2, 3)}
  both = {f"{x}.{k}": y for x in ("model", "net") for k, y in one.items()}
  torch.save(both, tmp_path / "x.pt")
  assert state_dicts.read(tmp_path / "x.pt").arrays.keys() == both.keys()
  found = state_dicts.read(tmp_path / "x.pt", prefix="net.")
  assert found.arrays.keys() == one.keys()


@pytest.mark.parametrize(
  ("name", "layout"),
  [
    ("layer1.0.conv3.weight", "the bottleneck ResNet of torchvision"),
    ("layer1.0.conv1.weight", "the ResNet of torchvision"),
    ("cls_token", "a ViT with a class token"),
    ("net.keypoint_linear.weight", "CVLface's KP-RPE nets"),
    ("body.0.res_layer.8.weight", "the bottleneck nets of AdaFace"),
    ("conv_6_sep.conv.weight", "the MobileFaceNet of InsightFace_Pytorch"),
    ("stages.0.blocks.0.conv_dw.weight", "timm's ConvNeXt or EdgeNeXt"),
  ],
)
def test_what_cannot_be_imported_is_refused_by_its_name(
  name, layout, tmp_path, capsys
):
  torch.save({name: torch.ones(2, 2)}, tmp_path / "x.pt")
  arguments = [str(tmp_path / "x.pt"), "--net", "iresnet50"]
  assert convert.main([*arguments, "--workdir", str(tmp_path / "run")]) == 2
  assert f"layout of {layout}" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


def test_the_published_nets_have_the_names_of_their_projects():
  for name, twin in (
    ("ir18", more.IR((2, 2, 2, 2), dim=8, image_size=(112, 112))),
    (
      "ir50_evolve",
      more.IR((3, 4, 14, 3), dim=8, image_size=SIZE, evolve=True),
    ),
    ("inception_resnet_v1", more.InceptionResnetV1(classes=3)),
  ):
    found = recognition.recognise(twin.state_dict())
    assert found == [recognition.Recognised(name)]


def test_an_epsilon_that_variances_cannot_take():
  arrays = {"bn.running_var": np.zeros(3, np.float32)}
  with pytest.raises(ValueError, match="'bn.running_var' has a variance below"):
    layouts.folded(arrays, epsilon_change=-1e-6)
