"""Files of another kind than was wanted are called what they are."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from facejax import convert
from facejax.data import images
from facejax.data.pairs import lfw, packs
from facejax.data.stores import record_io
from facejax.interchange import safetensors_file, state_dicts
from facejax.runtime import file_kinds, json_files, text_lines
from facejax.vectors import embeddings

PAGE = b"\n  <!DOCTYPE html>\n<html><title>Sign in</title></html>"
POINTER = (
  b"version https://git-lfs.github.com/spec/v1\n"
  b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
  b"\nsize 12345\n"
)
# What each says: of the file, and what to do.
WORDS = {
  PAGE: ("is an HTML page, not", "fetch the file again"),
  POINTER: ("is a Git LFS pointer, not", "git lfs pull"),
}
READERS = {
  "weights.pth": state_dicts.read,
  "weights.safetensors": safetensors_file.read,
  "lfw.bin": packs.read_pack,
  "pairs.npz": packs.read_pack,
  "set.npz": embeddings.read,
  "train.rec": record_io.RecordIO,
  "face.jpg": lambda path: images.decode(path.read_bytes(), name=str(path)),
  "pairs.txt": lambda path: list(text_lines.rows(path)),
  "people.txt": lfw.read_lfw_people,
  "model.json": json_files.read,
}


@pytest.mark.parametrize("content", WORDS, ids=["page", "pointer"])
@pytest.mark.parametrize("name", READERS)
def test_every_reader_says_what_a_file_is(name, content, tmp_path):
  if name.endswith(".safetensors"):
    pytest.importorskip("safetensors", reason="needs the onnx extra")
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(ValueError, match=name) as caught:
    READERS[name](path)
  for words in WORDS[content]:
    assert words in str(caught.value)


def zipped(path, *names):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in names:
      archive.writestr(name, b"x" * 100)
  return path


def test_archives_are_looked_into(tmp_path):
  for names, kind in (
    (("net/data.pkl", "net/code/net.py", "net/constants.pkl"), "torchscript"),
    (("net/data.pkl", "net/data/0"), "torch"),
    (("embeddings.npy",), "npz"),
    (("readme.txt",), "zip"),
  ):
    found = file_kinds.of_file(zipped(tmp_path / "x", *names))
    assert found is not None and found.name == kind


def test_a_torchscript_file_tells_how_its_weights_are_had(tmp_path, capsys):
  path = zipped(tmp_path / "net.pt", "net/data.pkl", "net/constants.pkl")
  assert run(path, tmp_path) == 2
  error = capsys.readouterr().err
  assert "is a TorchScript module, not a file of torch.save" in error
  assert "torch.jit.load" in error


def run(path, folder):
  return convert.main(
    [str(path), "--net", "iresnet18", "--workdir", str(folder / "run")]
  )


def test_an_onnx_file_cannot_be_converted(tmp_path, capsys):
  helper = pytest.importorskip("onnx.helper", reason="needs the onnx extra")
  value = helper.make_tensor_value_info("x", 1, [1])
  graph = helper.make_graph(
    [helper.make_node("Identity", ["x"], ["y"])],
    "net",
    [value],
    [helper.make_tensor_value_info("y", 1, [1])],
  )
  for options in ({}, {"producer_name": "pytorch"}):
    model = helper.make_model(graph, **options)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    assert run(path, tmp_path) == 2
    error = capsys.readouterr().err
    assert "is an ONNX model, not a file of torch.save" in error
    assert not (tmp_path / "run").exists()


def made(write):
  data = io.BytesIO()
  write(data)
  return data.getvalue()


@pytest.mark.parametrize(
  ("content", "kind"),
  [
    (b'{"message": "Not found"}', "json"),
    (b"<?xml version='1.0'?><Error/>", "xml"),
    (b"%PDF-1.7\n", "pdf"),
    (b"\x89HDF\r\n\x1a\n\0\0", "hdf5"),
    (b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "mxnet"),
    (b"\x1c\0\0\0TFL3\0\0", "tflite"),
    (b"\x1f\x8b\x08\0", "gzip"),
    (b"BZh91AY&SY", "bzip2"),
    (made(lambda file: np.save(file, np.ones(3))), "npy"),
    (made(lambda file: Image.new("RGB", (2, 2)).save(file, "PNG")), "png"),
    (made(lambda file: Image.new("RGB", (2, 2)).save(file, "JPEG")), "jpeg"),
  ],
)
def test_kinds(content, kind):
  found = file_kinds.of_bytes(content)
  assert found is not None and found.name == kind


@pytest.mark.parametrize(
  "text",
  ["BZhang/1.jpg", "PAR1/2.jpg", "GIF8/3.jpg", "{1}\n", "Aaron_Eckhart 1", ""],
)
def test_names_in_lists_are_taken_for_nothing_else(text):
  assert file_kinds.of_bytes(text.encode()) is None


def test_what_is_wanted_passes(tmp_path):
  safetensors = pytest.importorskip("safetensors.numpy", reason="onnx extra")
  path = tmp_path / "x.safetensors"
  safetensors.save_file({"a": np.ones(3, np.float32)}, path)
  found = file_kinds.of_file(path)
  assert found is not None and found.name == "safetensors"
  assert file_kinds.of_file(tmp_path / "no") is None
  file_kinds.refuse(tmp_path / "no", "anything")
  about = tmp_path / "about.json"
  about.write_text(json.dumps({}, indent=2))
  assert json_files.read(about) == {}
