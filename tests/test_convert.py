"""Weights of elsewhere: what is read, what is refused, what becomes of them."""

import json

import jax
import numpy as np
import pytest
from helpers import tiny_run as tiny

from facejax import convert
from facejax.interchange import (
  agreement,
  formats,
  importing,
  recognition,
  state_dicts,
)
from facejax.interchange import torch_write as torch_writer
from facejax.models import functional, torch_names
from facejax.runs import card, checkpoint, embedder, imported
from facejax.runs import classes as run_classes
from facejax.runs import net as net_lib

# The nets that round trips are exact for.
TWINS = ["iresnet18", "iresnet50", "sphereface20", "mobilefacenet", "vit_t"]


@pytest.fixture(scope="module")
def net(tiny_run):
  return net_lib.read(tiny_run)


@pytest.fixture(scope="module")
def arrays(net):
  """The state dict of a small net."""
  return torch_names.to_torch(net.backbone, (net.params, net.stats))


@pytest.fixture
def weights(arrays, tmp_path):
  path = tmp_path / "backbone.pth"
  torch_writer.write(path, arrays)
  return path


def run(*arguments):
  return convert.main([str(argument) for argument in arguments])


def size():
  return ("--image-size", *tiny.SIZE)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_import_embeds_like_the_run_it_came_from(
  weights, net, tiny_model, tmp_path, capsys
):
  folder = tmp_path / "run"
  assert run(weights, "--net", "iresnet10_slim", *size(), "--crop", "0.9",
             "--workdir", folder, "--trained-on", "faces") == 0  # fmt: skip
  assert f"embeddings of {tiny.DIM}" in capsys.readouterr().out
  model = embedder.load(folder, devices=2)
  images = agreement.example_images((40, 40), 3)
  np.testing.assert_array_equal(
    model.embed(images, batch_size=4), tiny_model.embed(images, batch_size=4)
  )
  about = card.read(folder)
  assert about.embedding_dim == tiny.DIM and about.trained_on == "faces"
  assert about.source.startswith("backbone.pth, SHA-256 ")
  # What training with --init-from takes, to the bit.
  like = jax.eval_shape(net.backbone.init, jax.random.key(0))
  step, trunk = net_lib.read_trunk(folder, net_lib.Trunk(*like))
  assert step == 0
  same((trunk.params, trunk.stats), (net.params, net.stats))
  # And it is handed on to the bit, too.
  formats.FORMATS["torch"].write(net_lib.read(folder), tmp_path / "again.pth")
  same(state_dicts.read_net(tmp_path / "again.pth"), read(weights))


def read(path):
  return state_dicts.read_net(path)


def test_our_own_file_needs_no_more_to_be_said(net, tiny_run, tmp_path):
  pytest.importorskip("safetensors", reason="needs the onnx extra")
  path = tmp_path / "net.safetensors"
  formats.FORMATS["safetensors"].write(net, path)
  assert run(path, "--workdir", tmp_path / "run") == 0
  again = net_lib.read(tmp_path / "run")
  same((again.params, again.stats), (net.params, net.stats))
  before, after = card.read(tiny_run), again.card
  assert (after.crop, after.image_size) == (before.crop, before.image_size)
  # There it is one of two sets of weights, here the only one.
  assert before.averaged and not after.averaged


def test_names_of_pytorch_in_safetensors(arrays, tmp_path):
  library = pytest.importorskip("safetensors.numpy", reason="the onnx extra")
  path = tmp_path / "backbone.safetensors"
  library.save_file(arrays, path)
  same(read(path), arrays)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(ValueError, match="is damaged"):
    read(path)


@pytest.mark.parametrize("name", TWINS)
def test_twins_survive_the_round_trip(name, tmp_path):
  torch_nets = pytest.importorskip(
    "helpers.torch_nets", reason="needs the bench extra"
  )
  torch = torch_nets.torch
  options = {"dim": 24, "image_size": (32, 48)}
  twin = torch_nets.randomized(torch_nets.NETS[name](**options))
  torch.save(twin.state_dict(), tmp_path / "in.pth")
  read = state_dicts.read_net(tmp_path / "in.pth")
  assert importing.infer_dim(name, (32, 48), read) == 24
  about = card.Card(name, 24, (32, 48))
  weights = importing.read_state_dict(about, read)
  back = torch_names.to_torch(
    net_lib.build(about), (weights.params, weights.stats)
  )
  torch_writer.write(tmp_path / "out.pth", back)
  again = torch.load(tmp_path / "out.pth", weights_only=True)
  for key, tensor in twin.state_dict().items():
    if "num_batches" not in key:
      assert torch.equal(again.pop(key), tensor), key
  assert not again


def test_wrappers_and_prefixes_come_off(arrays, tmp_path):
  path = tmp_path / "x.pth"
  torch_writer.write(path, {f"module.{k}": x for k, x in arrays.items()})
  same(read(path), arrays)
  mixed = {f"model.{k}": x for k, x in arrays.items()}
  torch_writer.write(path, mixed | {"head.kernel": np.ones((2, 3), np.float32)})
  same(state_dicts.read_net(path, prefix="model."), arrays)
  with pytest.raises(ValueError, match="begin with 'net.': model.conv1"):
    state_dicts.read_net(path, prefix="net.")


def test_tensors_too_many_or_too_few_are_named(arrays, tmp_path, capsys):
  path, folder = tmp_path / "x.pth", tmp_path / "run"
  command = (path, "--net", "iresnet10_slim", *size(), "--workdir", folder)

  def refused(changed, *more):
    torch_writer.write(path, changed)
    assert run(*command, *more) == 2
    assert not folder.exists()  # nothing half done
    return capsys.readouterr().err

  less = {k: x for k, x in arrays.items() if k != "layer2.0.conv1.weight"}
  assert "1 missing: layer2.0.conv1.weight" in refused(less)
  more = arrays | {"head.weight": np.ones(3, np.float32)}
  assert "1 unknown: head.weight" in refused(more)
  wrong = arrays | {"conv1.weight": np.ones((16, 3, 5, 5), np.float32)}
  assert "'conv1.weight' has the shape (16, 3, 5, 5)" in refused(wrong)
  nan = arrays | {"bn1.bias": np.full(16, np.nan, np.float32)}
  assert "'bn1.bias' has numbers that are not finite" in refused(nan)
  other = {f"x.{k}": x for k, x in arrays.items()}
  assert "no 'features.weight'" in refused(other)
  torch_writer.write(path, more)
  assert run(*command, "--ignore", "head.weight") == 0
  assert run(*command, "--ignore", "head.weight") == 2
  assert "is there already" in capsys.readouterr().err


def test_mistakes_end_with_one_message(weights, tmp_path, capsys):
  folder = tmp_path / "run"
  for arguments, message in (
    ((weights,), "--net: say which net"),
    ((tmp_path / "no.pth", "--net", "vit_t"), "there is no file"),
    (
      (weights, "--net", "iresnet18", "--image-size", 33, 33),
      "multiples of 16",
    ),
    ((weights, "--net", "sphereface4"), "there is no 'fc5.weight'"),
  ):
    assert run(*arguments, "--workdir", folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
  with pytest.raises(SystemExit):
    run(weights, "--net", "nn4", "--workdir", folder)  # no layout in PyTorch
  assert not folder.exists()


def test_a_missing_safetensors_file_is_named(tmp_path, capsys):
  pytest.importorskip("safetensors", reason="needs the onnx extra")
  folder = tmp_path / "run"
  assert run(tmp_path / "no.safetensors", "--workdir", folder) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and "there is no file" in error
  assert not folder.exists()


def classes(tmp_path, parts):
  """Files as arcface_torch names them, one a device."""
  paths = []
  for i, part in enumerate(parts):
    paths.append(str(tmp_path / f"softmax_fc_gpu_{i}.pt"))
    torch_writer.write(paths[-1], {"weight": part})
  return paths


def test_class_weights_of_devices_join(weights, tmp_path):
  whole = np.random.default_rng(0).normal(size=(30, tiny.DIM)).astype("f4")
  paths = classes(tmp_path, [whole[i : i + 3] for i in range(0, 30, 3)])
  # Of any order: names count, and 10 comes after 9.
  np.testing.assert_array_equal(
    state_dicts.read_prototypes(sorted(paths, reverse=True)), whole
  )
  folder = tmp_path / "run"
  assert run(weights, "--net", "iresnet10_slim", *size(), "--workdir", folder,
             "--prototypes", *paths) == 0  # fmt: skip
  assert card.read(folder).identities == 30
  like = imported.ImportedWeights(
    None, None, jax.ShapeDtypeStruct(whole.shape, np.float32)
  )
  with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
    restored = checkpoints.restore(like, partial=True)
  np.testing.assert_array_equal(restored.state.prototypes, whole)


def test_class_weights_of_other_forms(tmp_path):
  torch = pytest.importorskip("torch", reason="needs the bench extra")
  whole = torch.randn(8, 4)
  for saved in (
    whole,
    [whole[:3], whole[3:]],
    {"epoch": 1, "state_dict_softmax_fc": {"weight": whole}},
    {"kernel": whole, "bias": torch.zeros(8)},
    {"weight": torch.nn.Parameter(whole)},
  ):
    torch.save(saved, tmp_path / "x.pt")
    found = state_dicts.read_prototypes([str(tmp_path / "x.pt")])
    np.testing.assert_array_equal(found, whole.numpy())
  for saved in ({"a": whole, "b": whole}, {"a": 1}, [], 3, [1], whole[0]):
    torch.save(saved, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt'"):
      state_dicts.read_prototypes([str(tmp_path / "x.pt")])


def test_class_weights_that_do_not_fit(weights, tmp_path, capsys):
  paths = classes(tmp_path, [np.ones((3, 4), "f4"), np.ones((3, 5), "f4")])
  with pytest.raises(ValueError, match="of 5 numbers, those before it of 4"):
    state_dicts.read_prototypes(paths)
  with pytest.raises(
    ValueError, match=r"devices \[1, 7\]: they must be 0 to 1"
  ):
    state_dicts.read_prototypes([paths[1], str(tmp_path / "x_7.pt")])
  folder = tmp_path / "run"
  assert run(weights, "--net", "iresnet10_slim", *size(), "--workdir", folder,
             "--prototypes", paths[0]) == 2  # fmt: skip
  assert "have 4 numbers, embeddings 16" in capsys.readouterr().err
  assert not folder.exists()


def test_nets_with_a_layout_are_listed():
  assert "iresnet100" in recognition.nets() and "nn4" not in recognition.nets()
  assert set(recognition.nets()) < set(functional.NETS)


def test_our_own_files_that_are_not_whole(net, tmp_path):
  library = pytest.importorskip("safetensors.numpy", reason="the onnx extra")
  path = tmp_path / "net.safetensors"
  formats.FORMATS["safetensors"].write(net, path)
  arrays = library.load_file(path)
  arrays["extra"] = arrays.pop("params.linear.bias")
  for notes, message in (
    ({"facejax_card": card.to_text(net.card)}, "2 arrays do not fit"),
    ({"facejax_card": "{"}, "its card cannot be used"),
    ({"facejax_card": json.dumps({"net": 1})}, "its card cannot be used"),
  ):
    library.save_file(arrays, path, metadata=notes)
    with pytest.raises(ValueError, match=message):
      importing.read_own(path, importing.own_card(path))


def test_class_weights_get_their_names(weights, tmp_path):
  paths = classes(tmp_path, [np.ones((3, tiny.DIM), np.float32)])
  names = tmp_path / "names.txt"
  names.write_text("ada lovelace\nbob\ncid\n")
  arguments = [weights, "--net", "iresnet10_slim", *size(), "--workdir"]
  more = ["--class-names", names, "--prototypes", *paths]
  assert run(*arguments, tmp_path / "run", *more) == 0
  assert run_classes.read(tmp_path / "run") == ["ada lovelace", "bob", "cid"]


@pytest.mark.parametrize("prototypes", [True, False])
def test_names_of_other_classes_are_refused(
  prototypes, weights, tmp_path, capsys
):
  paths = classes(tmp_path, [np.ones((3, tiny.DIM), np.float32)])
  names = tmp_path / "names.txt"
  names.write_text("ada\nbob\n")
  more = ["--prototypes", *paths] if prototypes else []
  code = run(weights, "--net", "iresnet10_slim", *size(), "--workdir",
             tmp_path / "run", "--class-names", names, *more)  # fmt: skip
  said = "names 2 classes, and there are 3" if prototypes else "give both"
  assert code == 2 and said in capsys.readouterr().err
  assert not (tmp_path / "run").exists()
