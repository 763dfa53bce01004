"""Files of torch.save without PyTorch: what is read, and what is refused."""

import os
import pickle
import warnings
import zipfile

import jax
import numpy as np
import pytest

from facejax import convert
from facejax.interchange import state_dicts, torch_read, torch_tensors
from facejax.interchange import torch_write as torch_writer


def read(path):
  return state_dicts.read_net(path)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def saved(torch):
  """What checkpoints hold, and views that are awkward."""
  base = torch.arange(24.0).reshape(4, 6)
  return {
    "state_dict": {"a": base, "b": base.t()[1:3], "c": base[1, 2:5]},
    "types": [
      torch.arange(3, dtype=kind)
      for kind in (
        torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint8,
      )
    ],
    "flag": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "epoch": 3, "rate": 0.25, "name": "é", "none": None, "big": 2**40,
  }  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save(zipped, tmp_path):
  torch = pytest.importorskip("torch", reason="needs the bench extra")
  path, original = tmp_path / "x.pt", saved(torch)
  torch.save(original, path, _use_new_zipfile_serialization=zipped)
  with torch_read.opened(path) as found:
    same(found["state_dict"]["b"].numpy(), original["state_dict"]["b"].numpy())
    same(found["state_dict"]["c"].numpy(), original["state_dict"]["c"].numpy())
    for ours, theirs in zip(found["types"], original["types"], strict=True):
      same(ours.numpy().astype(float), theirs.double().numpy())
    for key in ("flag", "scalar", "empty"):
      same(found[key].numpy(), original[key].numpy())
    same(found["parameter"].numpy(), np.ones(2))
    for key in ("epoch", "rate", "name", "none", "big"):
      assert found[key] == original[key]
  same(read(path)["a"], original["state_dict"]["a"].numpy())


def zipped(path, data, **entries):
  """An archive as torch.save makes them, around any pickle."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x/data.pkl", data)
    for name, content in entries.items():
      archive.writestr(f"x/{name}", content)
  return path


class Command:
  """Runs a command where a pickle is trusted."""

  def __init__(self, mark):
    self.mark = mark

  def __reduce__(self):
    return os.system, (f"touch {self.mark}",)


def attacks(mark):
  """Pickles that would make a file, each by another operation."""
  name = str(mark).encode()
  yield pickle.dumps(Command(mark), 0)
  yield pickle.dumps({"a": Command(mark)}, 2)
  yield pickle.dumps([Command(mark)], 4)
  yield b"(cos\nsystem\nX\x04\x00\x00\x00trueo."  # OBJ
  yield b"(S'touch " + name + b"'\nios\nsystem\n."  # INST
  yield b"cbuiltins\neval\n(X\x01\x00\x00\x001tR."
  yield b"ctorch._utils\n_rebuild_tensor_v2\n(X\x01\x00\x00\x001tR."
  yield b"ctorch.serialization\nload\n(X\x01\x00\x00\x001tR."
  yield b"ccollections\nOrderedDict\n}X\x01\x00\x00\x00aNsb."  # BUILD
  yield b"ccollections\nOrderedDict\n)\x81."  # NEWOBJ
  yield b"\x82\x01."  # EXT1
  yield b"P1\n."  # PERSID
  yield b"X\x07\x00\x00\x00storageQ."
  yield b"}" + b"}" * 5 + b"s."


@pytest.mark.parametrize("older", [False, True])
def test_nothing_in_a_file_is_run(older, tmp_path):
  mark, path = tmp_path / "mark", tmp_path / "x.pth"
  for data in attacks(mark):
    if older:
      path.write_bytes(data)
    else:
      zipped(path, data)
    with pytest.raises(ValueError, match="x.pth'"), torch_read.opened(path):
      pass
    assert not mark.exists()


def test_an_attack_ends_with_a_message(tmp_path, capsys):
  path = zipped(tmp_path / "x.pth", pickle.dumps(Command(tmp_path / "mark")))
  arguments = [str(path), "--net", "vit_t", "--workdir", str(tmp_path / "run")]
  assert convert.main(arguments) == 2
  error = capsys.readouterr().err
  assert "posix.system, which no weights need; nothing was run" in error


@pytest.mark.parametrize(
  ("start", "shape", "strides"),
  [
    (0, (7,), (1,)),
    (1, (6,), (1,)),
    (0, (2, 3), (4, 1)),
    (-1, (2,), (1,)),
    (0, (2**40, 2**40), (0, 0)),
    (0, (2,), (2**61,)),
    (0, (2,), (-1,)),
    (0, (2, 3), (1,)),
    (0, (True,), (1,)),
    (0, (1,) * 40, (1,) * 40),
  ],
)
def test_views_beyond_their_storage_are_refused(start, shape, strides):
  storage = torch_tensors.Storage(np.dtype(np.float32), 6, lambda: bytes(24))
  with pytest.raises(ValueError, match="tensor"):
    torch_tensors.Tensor(storage, start, shape, strides)


def test_a_storage_of_another_size_is_refused(tmp_path):
  path = tmp_path / "x.pth"
  torch_writer.write(path, {"a": np.ones(6, np.float32)})
  with zipfile.ZipFile(path) as archive:
    data = archive.read("archive/data.pkl")
  for content, message in (
    ({"data/0": bytes(20)}, "20 bytes are there for 6 numbers"),
    ({"data/0": bytes(28)}, "28 bytes"),
    ({}, "lacks the numbers '0'"),
    ({"data/0": bytes(24), "byteorder": b"big"}, "big-endian"),
    ({"constants.pkl": b""}, "TorchScript"),
  ):
    with pytest.raises(ValueError, match=message):
      read(zipped(path, data, **content))


def test_archives_that_torch_does_not_write(tmp_path):
  path = tmp_path / "x.pth"
  torch_writer.write(path, {"a": np.ones(6, np.float32)})
  with zipfile.ZipFile(path) as archive:
    entries = [(i, archive.read(i)) for i in archive.namelist()]
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in entries:
      archive.writestr(name, data)
  with pytest.raises(ValueError, match="compressed"):
    read(path)
  with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name, data in [*entries, entries[0]]:
      archive.writestr(name, data)
  with pytest.raises(ValueError, match="two entries of one name"):
    read(path)


@pytest.mark.parametrize("data", [b"", b"\n\x0fGraphDef", b"weights 1 2 3"])
def test_what_is_no_pickle_is_said_to_be_none(data, tmp_path):
  path = tmp_path / "x.pth"
  path.write_bytes(data)
  with pytest.raises(ValueError, match="x.pth' is no file of torch.save"):
    read(path)


@pytest.mark.parametrize("zip_form", [True, False])
def test_damage_is_noticed_and_nothing_else_happens(zip_form, tmp_path):
  path = tmp_path / "x.pth"
  weights = {"a": np.arange(6, dtype=np.float32), "b.c": np.ones((2, 3), "f4")}
  torch_writer.write(path, weights)
  if not zip_form:
    torch = pytest.importorskip("torch", reason="needs the bench extra")
    made = {name: torch.from_numpy(x) for name, x in weights.items()}
    torch.save(made, path, _use_new_zipfile_serialization=False)
  whole = path.read_bytes()
  generator = np.random.default_rng(0)
  refused = 0
  for i in range(400):
    data = bytearray(whole)
    if i % 2:
      data = data[: generator.integers(len(data))]
    else:
      data[generator.integers(len(data))] ^= 1 << generator.integers(8)
    path.write_bytes(data)
    try:
      found = read(path)
      assert all(isinstance(x, np.ndarray) for x in found.values())
    except ValueError as error:
      assert "x.pth" in str(error)
      refused += 1
  assert refused > 200  # every shorter one, and more
