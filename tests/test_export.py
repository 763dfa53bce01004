"""A net handed on: ONNX, StableHLO, safetensors, PyTorch."""

import datetime
import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import paths
from helpers import tiny_run as tiny
from PIL import Image

from facejax import export
from facejax.data.synthetic import faces as synthetic
from facejax.interchange import agreement, exporting, formats, operations
from facejax.models import functional
from facejax.runs import card
from facejax.runs import net as net_lib
from facejax.runtime import unit_vectors, whole_files

onnx_file = pytest.importorskip(
  "facejax.interchange.onnx_file",
  reason="needs the onnx extra",
  exc_type=ImportError,
)
onnxruntime = pytest.importorskip(
  "onnxruntime", reason="needs the onnx extra", exc_type=ImportError
)
onnx = onnx_file.onnx

SCRIPTS = paths.ROOT / "scripts"


@pytest.fixture(scope="module")
def net(tiny_run):
  return net_lib.read(tiny_run)


@pytest.fixture(scope="module")
def exported(net, tiny_run, tmp_path_factory):
  """A file of each format, by its name."""
  folder = tmp_path_factory.mktemp("export")
  files = {}
  for form, written in formats.FORMATS.items():
    files[form] = folder / f"net{written.suffix}"
    exporting.export(net, form, files[form], run=tiny_run)
  return files


def faces(count=6):
  return agreement.example_images(tiny.SIZE, count)


def cosines(a, b):
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
  return np.sum(a * b, axis=1) / lengths


@pytest.mark.parametrize("opset", [13, onnx_file.onnx_graph.OPSETS[-1]])
def test_opsets_are_written_and_run(opset, tiny_run, tmp_path):
  path = tmp_path / "net.onnx"
  arguments = [str(tiny_run), "--format", "onnx", "--out", str(path)]
  assert export.main([*arguments, "--opset", str(opset)]) == 0
  (used,) = onnx.load(path).opset_import
  assert used.version == opset
  about = json.loads(path.with_name("net.onnx.json").read_text())
  assert about["checked"]["least_cosine"] >= 0.99999


@pytest.mark.parametrize("arguments", [("12",), ("99",), ("13", "torch")])
def test_other_opsets_are_refused(arguments, tiny_run, tmp_path, capsys):
  opset, form = (*arguments, "onnx")[:2]
  command = [str(tiny_run), "--format", form, "--out", str(tmp_path / "x")]
  assert export.main([*command, "--opset", opset]) == 2
  assert "--opset" in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_a_stablehlo_file_says_until_when_it_can_be_read(exported):
  beside = exported["stablehlo"].with_name("net.stablehlo.json")
  about = json.loads(beside.read_text())
  until = datetime.date.fromisoformat(about["readable_until"])
  days = (until - datetime.date.today()).days
  assert 180 <= days <= 184
  assert f"JAX {jax.__version__}" in about["readable_by"]
  assert "onnx or safetensors" in about["readable_by"]
  others = json.loads(exported["onnx"].with_name("net.onnx.json").read_text())
  assert "readable_until" not in others


def test_beside_each_file_lies_its_card(exported):
  for form, path in exported.items():
    about = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert about["file"] == path.name and about["format"] == form
    assert about["sha256"] == whole_files.sha256(path)
    assert about["bytes"] == path.stat().st_size
    assert about["checked"]["least_cosine"] >= 0.99999
    assert about["net"]["net"] == "iresnet10_slim"
    assert about["net"]["crop"] == 0.9 and about["step"] == tiny.STEP
    assert about["metrics"]["pairs"]["accuracy"] == 0.875
    assert str(tiny.DIM) in about["output"]
  assert (
    "[batch, 3, 32, 32]"
    in json.loads(exported["onnx"].with_name("net.onnx.json").read_text())[
      "input"
    ]
  )


def test_files_lie_in_the_run_unless_told(tiny_run, capsys):
  assert export.main(["--workdir", str(tiny_run), "--format", "torch"]) == 0
  assert (tiny_run / "export" / "model.pth").exists()
  assert "cosine to the net at least" in capsys.readouterr().out
  # No drafts are left behind.
  names = {path.name for path in (tiny_run / "export").iterdir()}
  assert names == {"model.pth", "model.pth.json"}


def test_onnx_makes_the_embeddings_of_the_run(exported, tiny_model):
  images = faces()
  found = onnx_file.run(exported["onnx"], images)
  assert found.shape == (6, tiny.DIM) and found.dtype == np.float32
  # The run embeds with its average of the weights, at length 1.
  expected = unit_vectors.unit(tiny_model.features_batch(images))
  assert cosines(found, expected).min() >= 0.99999


def test_onnx_is_as_clients_of_arcface_want_it(exported):
  session = onnxruntime.InferenceSession(exported["onnx"])
  (taken,), (given,) = session.get_inputs(), session.get_outputs()
  assert taken.name == "data" and taken.shape == ["batch", 3, *tiny.SIZE]
  assert given.shape == ["batch", tiny.DIM]
  model = onnx.load(exported["onnx"])
  # By such names InsightFace knows nets that normalise images themselves.
  for node in model.graph.node:
    assert not node.name.startswith(("Sub", "_minus", "Mul", "_mul"))
  kinds = [node.op_type for node in model.graph.node]
  # BatchNorm after a convolution is in its weights; before one it stays.
  assert kinds.count("BatchNormalization") == 5
  assert kinds.count("PRelu") == 5
  assert "Transpose" not in kinds
  assert {"facejax_card"} == {entry.key for entry in model.metadata_props}


def test_a_client_as_users_write_it(exported, tiny_model, tmp_path):
  spec = importlib.util.spec_from_file_location(
    "onnx_client", SCRIPTS / "onnx_client.py"
  )
  client = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(client)
  source = synthetic.SyntheticFaces(
    num_identities=3, images_per_identity=2, seed=1, image_size=(40, 40)
  )
  for i in range(6):
    name = f"P{i // 2}"
    (tmp_path / name).mkdir(exist_ok=True)
    path = tmp_path / name / f"{name}_{i % 2 + 1:04d}.jpg"
    Image.fromarray(np.asarray(source[i])).save(path, quality=95)
  lines = ["2", "P0\t1\t2", "P1\t1\t2", "P0\t1\tP1\t2", "P2\t1\tP1\t2"]
  (tmp_path / "pairs.txt").write_text("\n".join(lines))
  pairs = client.read_pairs(str(tmp_path / "pairs.txt"))
  arcface = client.ArcFace(str(exported["onnx"]), 0.9)
  scores, same = client.score(arcface, tmp_path, pairs)
  assert same.tolist() == [True, True, False, False]
  sides = [[tmp_path / pair[side] for pair in pairs] for side in (0, 1)]
  first, second = (tiny_model.embed(side, flip=True) for side in sides)
  np.testing.assert_allclose(scores, np.sum(first * second, 1), atol=1e-5)
  assert client.best_threshold(np.array([0.9, 0.7, 0.3, 0.1]), same) == 0.5


_SERVE = """
import pathlib, sys
for name in ("flax", "facejax", "orbax", "optax"):
  sys.modules[name] = None
import jax, numpy as np
path, images, found = sys.argv[1:]
program = jax.export.deserialize(bytearray(pathlib.Path(path).read_bytes()))
assert program.platforms == ("cpu", "cuda", "tpu")
assert str(program.in_avals[0].shape[0]) == "batch"
np.save(found, program.call(np.load(images)))
"""


def test_stablehlo_is_served_without_flax(exported, tiny_model, tmp_path):
  images = faces()
  np.save(tmp_path / "images.npy", images)
  paths = [exported["stablehlo"], tmp_path / "images.npy", tmp_path / "out.npy"]
  subprocess.run([sys.executable, "-c", _SERVE, *paths], check=True)
  found = np.load(tmp_path / "out.npy")
  np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
  expected = unit_vectors.unit(tiny_model.features_batch(images))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pytorch_opens_the_state_dict(exported, tiny_model):
  torch_nets = pytest.importorskip(
    "helpers.torch_nets", reason="needs the bench extra"
  )
  weights = torch_nets.torch.load(exported["torch"], weights_only=True)
  twin = torch_nets.NETS["iresnet10_slim"](dim=tiny.DIM, image_size=tiny.SIZE)
  twin.load_state_dict(weights)
  images = faces()
  found = torch_nets.embed(twin, images, train=False)
  expected = unit_vectors.unit(tiny_model.features_batch(images))
  assert cosines(found, expected).min() >= 0.99999


@pytest.mark.parametrize(
  ("name", "size", "options"),
  [
    ("iresnet10_slim", (32, 48), {"se": True}),
    ("sphereface4", (32, 48), {}),
    ("mobilefacenet", (32, 48), {}),
    ("vit_t", (27, 36), {}),
    ("ir18", (32, 48), {"se": True}),
    ("ir50_evolve", (16, 32), {}),
    ("inception_resnet_v1", (75, 91), {}),
    ("inception_slim", (48, 32), {"norm": "lrn"}),
  ],
)
def test_nets_of_every_kind_become_onnx(name, size, options, tmp_path):
  pixels = {"pixel_mean": 0.0, "pixel_scale": 255.0}
  backbone = functional.build(
    name, embedding_dim=8, image_size=size, **pixels, **options
  )
  params, stats = drawn(backbone)
  about = card.Card(name, 8, size, colors="BGR", **pixels)
  net = net_lib.TrainedNet(about, 0, backbone, params, stats)
  model = onnx_file.build(net.features, size, name=name, version="0", notes={})
  onnx_file.write(tmp_path / "net.onnx", model)
  images = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
  found = onnx_file.run(tmp_path / "net.onnx", images)
  expected, _ = jax.jit(backbone.apply, static_argnames="train")(
    params, stats, images[..., ::-1], train=False
  )
  assert cosines(found, expected).min() >= 0.99999
  np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(found).max())


def drawn(backbone):
  """Random weights and statistics that keep maps in range."""
  generator = np.random.default_rng(1)

  def draw(path, leaf):
    name = jax.tree_util.keystr(path)
    middle = float("scale" in name or "var" in name)
    fan = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
    values = middle + generator.normal(size=leaf.shape) / np.sqrt(fan)
    return (
      np.abs(values).astype(leaf.dtype)
      if "var" in name
      else (values.astype(leaf.dtype))
    )

  like = jax.eval_shape(backbone.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(draw, like)


RULES = {
  "elementwise": lambda x: jnp.tanh(x) ** 2 + jnp.abs(x) ** 1.5 - jnp.sin(0.0),
  "ordered": lambda x: jnp.where(x > 0.5, jnp.exp(-x), jax.nn.sigmoid(x)),
  "affine": lambda x: (1.5 - (x * 2 - jnp.arange(3.0))) / 4,
  "affine used twice": lambda x: (y := x * 2 + 1) + jnp.sqrt(jnp.abs(y)),
  "not by channel": lambda x: x * jnp.arange(4.0).reshape(1, 4, 1, 1),
  "slices": lambda x: (
    jax.lax.slice(x, (0, 0, 0, 0), (x.shape[0], 4, 5, 3), (1, 2, 1, 1))
    - jax.lax.slice_in_dim(x, 1, 3, axis=1)
  ),
  "transpose": lambda x: jnp.swapaxes(x, 1, 3) * jnp.arange(5.0)[:, None],
  "join": lambda x: jnp.concatenate([x, x * 2], 1),
  "join turned": lambda x: jnp.concatenate(
    [x.reshape(-1, 12, 5).reshape(-1, 4, 5, 3), x], axis=3
  ),
  "reverse": lambda x: jnp.flip(x, (1, 3)),
  "reduce": lambda x: x.max((1, 2)) - x.sum((1, 2)) + x.min((1, 2)),
  "mean kept": lambda x: x - x.mean(-1, keepdims=True),
  "clip": lambda x: jnp.clip(x, -0.5, 0.5),
  "softmax": lambda x: jax.nn.softmax(x, axis=2),
  "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
  "gram": lambda x: jnp.einsum("bhwc,bhwd->bcd", x, x),
  "by rows": lambda x: jnp.einsum("bhwc,hwc->bc", x, jnp.ones((4, 5, 3))),
  # One branch is for CPUs, and does what has no rule.
  "platforms": lambda x: jax.lax.platform_dependent(
    x,
    cpu=lambda x: jnp.sort(jnp.sort(-x)) * 0 + jnp.flip(x, 1),
    default=lambda x: jnp.flip(x, 1),
  ),
  "linear": lambda x: x @ jnp.arange(6.0).reshape(3, 2) + jnp.arange(2.0),
}


# Of ONNX's operators: before and after sums and maxima were written otherwise,
# and the newest.
OPSETS = (13, 17, onnx_file.onnx_graph.OPSETS[-1])


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", RULES)
def test_rules_compute_what_jax_computes(name, opset, tmp_path):
  with jax.numpy_rank_promotion("allow"):
    function = lambda x: RULES[name](x).reshape(  # noqa: E731
      x.shape[0], -1
    )
    model = onnx_file.build(
      function, (4, 5), name=name, version="0", notes={}, opset=opset
    )
    onnx_file.write(tmp_path / "net.onnx", model)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    pixels = (images.astype(np.float32) - 127.5) / 127.5
    expected = function(pixels)
  found = onnx_file.run(tmp_path / "net.onnx", images)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_what_has_no_rule_is_refused_by_name():
  with pytest.raises(ValueError, match="'odd'.*'sort'"):
    onnx_file.build(
      lambda x: jnp.sort(x, 1).reshape(x.shape[0], -1),
      (4, 5),
      name="odd",
      version="0",
      notes={},
    )
  with pytest.raises(ValueError, match="does not depend"):
    operations.trace(lambda x: jnp.ones(3), (2,))


def test_a_file_that_does_not_agree_is_not_left(
  net, tiny_run, tmp_path, monkeypatch
):
  right = formats.FORMATS["onnx"]

  def write_wrong(net, path):
    # As an exporter that normalises twice.
    model = onnx_file.build(
      lambda x: net.features((x - 127.5) / 127.5),
      tiny.SIZE,
      name="wrong",
      version="0",
      notes={},
    )
    onnx_file.write(path, model)

  wrong = formats.Format(
    right.suffix, right.takes, right.gives, write_wrong, right.embed
  )
  monkeypatch.setitem(formats.FORMATS, "onnx", wrong)
  with pytest.raises(ValueError, match="does not agree with the net"):
    exporting.export(net, "onnx", tmp_path / "net.onnx", run=tiny_run)
  assert not list(tmp_path.iterdir())


def test_weights_that_were_changed_are_noticed(
  net, tiny_run, tmp_path, monkeypatch
):
  right = formats.FORMATS["safetensors"]

  def write_wrong(net, path):
    right.write(net, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

  wrong = formats.Format(
    right.suffix, right.takes, right.gives, write_wrong, right.embed
  )
  monkeypatch.setitem(formats.FORMATS, "safetensors", wrong)
  with pytest.raises(ValueError, match="does not hold the weights"):
    exporting.export(net, "safetensors", tmp_path / "x", run=tiny_run)


def test_mistakes_end_with_one_message(tiny_run, tmp_path, capsys, monkeypatch):
  def refused(*arguments):
    assert export.main([*map(str, arguments)]) == 2
    out = capsys.readouterr()
    assert out.err.startswith("error: ")
    return out.err

  run = ("--workdir", tiny_run, "--format")
  assert "not the folder" in refused("--workdir", tmp_path, "--format", "onnx")
  assert "one --format" in refused(*run, "onnx", "torch", "--out", "x")
  with monkeypatch.context() as patch:
    patch.setitem(sys.modules, "flatbuffers", None)
    assert "facejax[onnx]" in refused(*run, "stablehlo")
    patch.setitem(sys.modules, "safetensors", None)
    assert "facejax[onnx]" in refused(*run, "safetensors")


def test_only_nets_with_a_layout_become_state_dicts(tmp_path, tiny_run):
  backbone = functional.build(
    "inception_slim", embedding_dim=8, image_size=(32, 32)
  )
  about = card.Card("inception_slim", 8, (32, 32))
  net = net_lib.TrainedNet(about, 0, backbone, *drawn(backbone))
  with pytest.raises(ValueError, match="no layout in PyTorch"):
    exporting.export(net, "torch", tmp_path / "net.pth", run=tiny_run)
  assert not list(tmp_path.iterdir())
