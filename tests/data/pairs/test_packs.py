import base64
import builtins
import copyreg
import io
import os
import pickle
import random
import struct
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from facejax.data import images
from facejax.data.pairs import encoded_pairs, packs, packs_write, pairs
from facejax.data.stores import folder
from facejax.runtime import pickle_machine, pickle_values

# Two "images" in all that an escape, a line or a text can go wrong with.
A = b"\x89PNG\r\n\x1a\n\x00\xff'\"\\"
B = b"\xff\xd8\xff\xe0JFIF\x00\x80\n\t"
# ([A, B, B, A], [True, False]) by Python 2.7.18: as str by protocols 0 and 2,
# and as arrays and labels of numpy 1.16.6.
PYTHON_2 = {
  "bytes 0": "KChscDEKUydceDg5UE5HXHJcblx4MWFcblx4MDBceGZmXCciXFwnCnAyCmFTJ1x"
  "4ZmZceGQ4XHhmZlx4ZTBKRklGXHgwMFx4ODBcblx0JwpwMwphZzMKYWcyCmEobHA0CkkwMQphS"
  "TAwCmF0cDUKLg==",
  "bytes 2": "gAJdcQEoVQ2JUE5HDQoaCgD/JyJccQJVDP/Y/+BKRklGAIAKCXEDaANoAmVdcQQ"
  "oiIllhnEFLg==",
  "arrays 0": "KChscDEKY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcDIKKG"
  "NudW1weQpuZGFycmF5CnAzCihJMAp0UydiJwp0UnA0CihJMQooSTEzCnRjbnVtcHkKZHR5cGUK"
  "cDUKKFMndTEnCkkwCkkxCnRScDYKKEkzClMnfCcKTk5OSS0xCkktMQpJMAp0YkkwMApTJ1x4OD"
  "lQTkdcclxuXHgxYVxuXHgwMFx4ZmZcJyJcXCcKdGJhZzIKKGczCihJMAp0UydiJwp0UnA3CihJ"
  "MQooSTEyCkkxCnRnNgpJMDAKUydceGZmXHhkOFx4ZmZceGUwSkZJRlx4MDBceDgwXG5cdCcKdG"
  "JhZzIKKGczCihJMAp0UydiJwp0UnA4CihJMQooSTEyCnRnNgpJMDAKUydceGZmXHhkOFx4ZmZc"
  "eGUwSkZJRlx4MDBceDgwXG5cdCcKdGJhZzIKKGczCihJMAp0UydiJwp0UnA5CihJMQooSTEzCn"
  "RnNgpJMDAKUydceDg5UE5HXHJcblx4MWFcblx4MDBceGZmXCciXFwnCnRiYShscDEwCmNudW1w"
  "eS5jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnAxMQooZzUKKFMnYjEnCkkwCkkxCnRScDEyCihJMw"
  "pTJ3wnCk5OTkktMQpJLTEKSTAKdGJTJ1x4MDEnCnRScDEzCmFnMTEKKGcxMgpTJ1x4MDAnCnRS"
  "cDE0CmF0cDE1Ci4=",
  "arrays 2": "gAJdcQEoY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcQJjbn"
  "VtcHkKbmRhcnJheQpxA0sAhVUBYodScQQoSwFLDYVjbnVtcHkKZHR5cGUKcQVVAnUxSwBLAYdS"
  "cQYoSwNVAXxOTk5K/////0r/////SwB0YolVDYlQTkcNChoKAP8nIlx0YmgCaANLAIVVAWKHUn"
  "EHKEsBSwxLAYZoBolVDP/Y/+BKRklGAIAKCXRiaAJoA0sAhVUBYodScQgoSwFLDIVoBolVDP/Y"
  "/+BKRklGAIAKCXRiaAJoA0sAhVUBYodScQkoSwFLDYVoBolVDYlQTkcNChoKAP8nIlx0YmVdcQ"
  "ooY251bXB5LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcQtoBVUCYjFLAEsBh1JxDChLA1UBfE5O"
  "Tkr/////Sv////9LAHRiVQEBhlJxDWgLaAxVAQCGUnEOZYZxDy4=",
}


def png(value, size=6):
  file = io.BytesIO()
  Image.new("RGB", (size, size), (value, 0, 255 - value)).save(file, "PNG")
  return file.getvalue()


def write(tmp_path, data, name="set.bin"):
  path = tmp_path / name
  path.write_bytes(data)
  return path


def contents(pack):
  sides = zip(pack.first.tolist(), pack.second.tolist(), strict=True)
  return [
    (pack.files.encoded(i), pack.files.encoded(j), same)
    for (i, j), same in zip(sides, pack.same.tolist(), strict=True)
  ]


def array(data):
  return np.frombuffer(data, np.uint8)


WAYS = {
  "bytes": ([A, B, B, A], [True, False]),
  "tuples": ((A, B, B, A), (1, 0)),
  "bytearrays": ([bytearray(A), bytearray(B), B, A], [True, False]),
  "arrays": (
    [array(A), array(B)[:, None].copy(), array(B), array(A).copy()],
    [np.True_, np.False_],
  ),
  "array of labels": ([A, B, B, A], np.array([True, False])),
  "labels as numbers": ([A, B, B, A], list(np.array([1, 0]))),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("way", WAYS)
def test_bin_of_python_3(tmp_path, way, protocol):
  data = pickle.dumps(WAYS[way], protocol)
  pack = packs.read_pack(write(tmp_path, data))
  assert contents(pack) == [(A, B, True), (B, A, False)]
  assert len(pack.files) == 2
  # numpy called these modules so before version 2.
  older = data.replace(b"numpy._core", b"numpy.core")
  if protocol < 4:
    assert contents(packs.read_pack(write(tmp_path, older))) == contents(pack)


@pytest.mark.parametrize("way", PYTHON_2)
def test_bin_of_python_2(tmp_path, way):
  path = write(tmp_path, base64.b64decode(PYTHON_2[way]))
  assert contents(packs.read_pack(path)) == [(A, B, True), (B, A, False)]


def test_bin_has_the_folds_of_the_field(tmp_path):
  data = pickle.dumps(([A, B] * 23, [True] * 23))
  fold = packs.read_pack(write(tmp_path, data)).fold
  assert np.bincount(fold).tolist() == [3, 3, 3] + [2] * 7
  assert (np.diff(fold) >= 0).all()
  assert encoded_pairs.folds_in_order(4).tolist() == [0, 1, 2, 3]


class Run:
  """What pickles to a call."""

  def __init__(self, *call):
    self.call = call

  def __reduce__(self):
    return self.call


def call(module, name, argument=b"U\x01x"):
  """A pickle that calls module.name("x"), in the style of protocol 1."""
  return b"c%s\n%s\n(%stR." % (module, name, argument)


MARK = "touched"
HOSTILE = {
  "os.system": pickle.dumps(Run(os.system, (f"touch {MARK}",))),
  "subprocess": pickle.dumps(Run(subprocess.call, (["touch", MARK],))),
  "eval": pickle.dumps(Run(builtins.eval, (f"open({MARK!r}, 'w')",)), 2),
  "exec": pickle.dumps(Run(builtins.exec, (f"open({MARK!r}, 'w')",)), 0),
  "in an image": pickle.dumps(([Run(open, (MARK, "w")), A], [True])),
  "python 2": call(b"__builtin__", b"execfile"),
  "codecs": pickle.dumps(Run(__import__, ("codecs",)), 4),
  "more of codecs": call(b"_codecs", b"lookup"),
  "more of numpy": call(b"numpy", b"load"),
  "numpy.distutils": call(b"numpy.distutils.exec_command", b"exec_command"),
  "dotted": call(b"numpy", b"dtype.__class__"),
  "copyreg": pickle.dumps(Run(copyreg._reconstructor, (list, object, None)), 2),
  "copyreg.__newobj__": b"\x80\x02ccopyreg\n__newobj__\n(cos\nsystem\ntR.",
  "newobj": b"\x80\x02cnumpy\nndarray\n)\x81.",
  "instance": b"(S'touch'\nios\nsystem\n.",
  "object": b"(cos\nsystem\nS'touch'\no.",
  "persistent": b"Pid\n.",
  "extension": b"\x80\x02\x82\x01.",
  "buffer": b"\x80\x05\x97.",
  "dictionary": b"\x80\x02}.",
  "state of a name": b"\x80\x02cnumpy\ndtype\n(K\x01K\x02tb.",
  "state of a list": b"\x80\x02](K\x01tb.",
  "foreign array": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n"
  b"(cnumpy\ndtype\nK\x00\x85C\x01btR.",
  "objects": pickle.dumps(([np.array([Run(os.getcwd, ())]), A], [True])),
  "text array": pickle.dumps(([np.array(["x"]), A], [True])),
  "big endian": pickle.dumps(([A, B], np.array([1], ">i4")), 2),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, attack):
  monkeypatch.chdir(tmp_path)
  path = write(tmp_path, HOSTILE[attack])
  with pytest.raises(ValueError, match="set.bin' is no pack of images"):
    packs.read_pack(path)
  assert os.listdir(tmp_path) == ["set.bin"]


def test_what_a_pickle_asks_for_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"posix\.system.*nothing was run"):
    packs.read_pack(write(tmp_path, HOSTILE["os.system"]))


def test_the_list_of_names_is_short_and_exact():
  assert len(pickle_values._NAMES) == 11
  for module, name in pickle_values._NAMES:
    assert pickle_values.find(module, name) == pickle_values.Name(name)
  for near in (("numpy.core", "multiarray"), ("numpy", "dtypes"), ("", "")):
    with pytest.raises(pickle_values.UnpickleError):
      pickle_values.find(*near)


def reconstruct(shape, data):
  return (
    b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n"
    b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
    + shape
    + b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R\x89C%c%stb."
    % (len(data), data)
  )


ABSURD = {
  "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62),
  "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
  "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b"x.",
  "negative": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
  "number": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
  "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"].",
  "memo": b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
  "shape": reconstruct(b"J\xff\xff\xff\x7f\x85", b"abc"),
  "negative shape": reconstruct(b"J\xff\xff\xff\xff\x85", b"abc"),
  "many sides": reconstruct(b"(" + b"K\x03" * 5000 + b"t", b"abc"),
  "text made again": b"\x80\x02X"
  + struct.pack("<I", 100_000)
  + b"x" * 100_000
  + b"q\x000c_codecs\nencode\nq\x01]("
  + b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R" * 1_000
  + b"e.",
  "deep": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
  "deep tuples": b"\x80\x02)" + b"\x85" * 50_000 + b".",
  "marks": b"(" * 50_000,
  "itself": b"\x80\x02]q\x00h\x00a.",
  "digits": b"I" + b"9" * 100_000 + b"\n.",
}


@pytest.mark.parametrize("claim", ABSURD)
def test_memory_is_bounded_by_the_file(tmp_path, claim):
  path = write(tmp_path, ABSURD[claim])
  tracemalloc.start()
  with pytest.raises(ValueError, match="set.bin'"):
    packs.read_pack(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 300 * len(ABSURD[claim]) + 1e6


@pytest.mark.parametrize(
  ("pack", "message"),
  [
    ([A], "does not hold two lists"),
    ([[A, B, A], [True]], "holds 3 images for 1 pairs"),
    ([[A, B], []], "has no list that says"),
    ([[A, B], [2]], "by 0 or 1 whether pair 0"),
    ([[A, B], [None]], "by 0 or 1 whether pair 0"),
    ([[A, "text"], [True]], "other than bytes for image 1"),
    ([[A, np.zeros((4, 4, 3), np.uint8)], [True]], "pixels of shape .4, 4, 3"),
    (["AB", [True]], "holds no list of images for 1 pairs"),
  ],
)
def test_bins_of_another_shape(tmp_path, pack, message):
  with pytest.raises(ValueError, match=message):
    packs.read_pack(write(tmp_path, pickle.dumps(pack)))


def test_small_operations_are_counted(tmp_path):
  with pytest.raises(ValueError, match="more operations than a pack needs"):
    packs.read_pack(write(tmp_path, b"(" * 1_100_000))


def test_every_cut_is_an_error(tmp_path):
  for data in (
    pickle.dumps(WAYS["arrays"]),
    base64.b64decode(PYTHON_2["arrays 0"]),
  ):
    for size in range(len(data)):
      with pytest.raises(pickle_values.UnpickleError):
        pickle_machine.read(data[:size])


def test_missing_packs(tmp_path):
  with pytest.raises(FileNotFoundError, match="there is no pack"):
    packs.read_pack(tmp_path / "nowhere.bin")
  with pytest.raises(ValueError, match="ends early"):
    packs.read_pack(write(tmp_path, b""))


@pytest.fixture
def listed(tmp_path):
  """Three pairs of three images of two people, in folds of unequal size."""
  root = tmp_path / "faces"
  groups = [("Ann", ["1.png", "ä\udcff.png"]), ("Bob", ["1.png"])]
  for person, files in groups:
    (root / person).mkdir(parents=True)
    for k, file in enumerate(files):
      (root / person / file).write_bytes(png(40 * k + len(person)))
  return encoded_pairs.EncodedPairs(
    files=folder.ImageFiles(root, groups),
    first=np.array([0, 1, 0], np.int32),
    second=np.array([1, 2, 2], np.int32),
    same=np.array([True, False, False]),
    fold=np.array([1, 0, 1], np.int32),
  )


def test_npz_keeps_everything(tmp_path, listed):
  path = tmp_path / "set.npz"
  told = []
  packs_write.write_pack(path, listed, advance=told.append)
  assert told == [1, 1, 1]
  pack = packs.read_pack(path)
  assert contents(pack) == contents(listed)
  for name in ("first", "second", "same", "fold"):
    np.testing.assert_array_equal(getattr(pack, name), getattr(listed, name))
    assert getattr(pack, name).dtype == getattr(listed, name).dtype
  names = [pack.files.name(k) for k in range(3)]
  assert names == [listed.files.name(k) for k in range(3)]
  np.testing.assert_array_equal(pack.files.labels, [0, 0, 1])
  assert list(pack.files.class_names) == ["Ann", "Bob"]
  with np.load(path, allow_pickle=False) as plain:
    assert {*plain.files} == {*packs.ARRAYS}
  again = pickle.loads(pickle.dumps(pack.files))
  assert again.encoded(2) == pack.files.encoded(2)


def test_bin_is_what_the_field_reads(tmp_path, listed, caplog):
  path = tmp_path / "set.bin"
  packs_write.write_pack(path, listed)
  bins, issame = pickle.loads(path.read_bytes())
  assert [type(bins), type(issame), type(bins[0])] == [list, list, bytes]
  # Fold after fold: the pair of fold 0 comes first.
  assert issame == [False, True, False]
  order = [1, 0, 2]
  assert [(*bins[2 * k : 2 * k + 2], issame[k]) for k in range(3)] == [
    contents(listed)[k] for k in order
  ]
  assert "no room for folds" in caplog.text
  assert sorted(os.listdir(tmp_path)) == ["faces", "set.bin"]


def test_a_failed_write_leaves_what_was_there(tmp_path, listed):
  path = tmp_path / "set.npz"
  path.write_bytes(b"before")
  os.remove(listed.files.path(2))
  with pytest.raises(images.BadImageError, match=r"Bob/1\.png"):
    packs_write.write_pack(path, listed)
  assert path.read_bytes() == b"before"
  assert sorted(os.listdir(tmp_path)) == ["faces", "set.npz"]
  with pytest.raises(ValueError, match=r"called \.bin, .* or \.npz"):
    packs_write.write_pack(tmp_path / "set.pkl", listed)
  with pytest.raises(FileNotFoundError, match="there is no folder"):
    packs_write.write_pack(tmp_path / "nowhere" / "set.bin", listed)


def npz(tmp_path, listed, **changed):
  path = tmp_path / "set.npz"
  packs_write.write_pack(path, listed)
  with np.load(path) as plain:
    arrays = dict(plain)
  arrays |= changed
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
  return path


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"first": np.array([0, 1, 3], np.int32)}, "first outside 0..2"),
    ({"first": np.array([0, 1, -1], np.int32)}, "first outside 0..2"),
    ({"fold": np.array([0, 1, 9], np.int32)}, "fold outside 0..2"),
    ({"second": np.zeros(2, np.int32)}, "has 2 of second for 3 pairs"),
    ({"same": np.ones(0, bool)}, "for 0 pairs"),
    ({"same": np.ones(3, np.int32)}, "holds same as int32"),
    ({"ends": np.array([4, 2, 9])}, "images end where none can"),
    ({"ends": np.array([4, 9, 2**40])}, "images end where none can"),
    ({"ends": np.array([-4, 9, 10])}, "images end where none can"),
    ({"names": array(b"a\0b\0")}, "has 2 names for 3 images"),
    ({"names": array(b"a\0b\0c\0d")}, "has 3 names for 3 images"),
    ({"version": np.array([9], np.int32)}, "is of version .9.*reads version 1"),
    ({"images": np.array([A], object)}, "holds images as object"),
    ({"fold": None}, "KeyError"),
  ],
)
def test_npz_that_does_not_add_up(tmp_path, listed, changed, message):
  path = npz(tmp_path, listed, **changed)
  with pytest.raises(ValueError, match=f"the pack .*set.npz' .*{message}"):
    packs.read_pack(path)


def test_labels_other_than_0_and_1(tmp_path, listed):
  same = np.array([0, 1, 7], np.uint8).view(bool)
  with pytest.raises(ValueError, match="by 0 or 1 which pairs"):
    packs.read_pack(npz(tmp_path, listed, same=same))


def test_bombs_in_a_zip(tmp_path):
  path = tmp_path / "set.npz"
  arrays = {name: np.zeros(1, kind) for name, kind in packs.ARRAYS.items()}
  np.savez_compressed(path, **{**arrays, "images": np.zeros(10**7, np.uint8)})
  with pytest.raises(ValueError, match="compressed, or claims too much"):
    packs.read_pack(path)
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
  )
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("version.npy", header.getvalue())
  with pytest.raises(ValueError, match=r"expected int32 .0,"):
    packs.read_pack(path)


@pytest.mark.parametrize("suffix", ["bin", "npz"])
def test_mutated_packs_are_read_or_refused(tmp_path, listed, suffix):
  path = tmp_path / f"set.{suffix}"
  packs_write.write_pack(path, listed)
  whole, rng = path.read_bytes(), random.Random(0)
  refused = 0
  for _ in range(500):
    data = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
      data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
    try:
      pack = packs.read_pack(path)
      assert [pack.files.name(k) for k in range(len(pack.files))]
      assert contents(pack)
    except ValueError as error:
      assert "set." in str(error)
      refused += 1
  assert refused > 200


def test_open_pairs_of_packs(tmp_path, listed):
  for name in ("set.bin", "set.npz"):
    packs_write.write_pack(tmp_path / name, listed)
    found = pairs.open_pairs(tmp_path / name, image_size=(4, 4))
    assert (found.name, len(found)) == ("set", 3)
    assert found.source[0].shape == (4, 4, 3)
  # What it is called does not matter.
  os.rename(tmp_path / "set.npz", tmp_path / "set.txt")
  assert len(pairs.open_pairs(tmp_path / "set.txt", image_size=(4, 4))) == 3


def test_a_pack_with_a_bad_image_is_not_opened(tmp_path):
  path = write(tmp_path, pickle.dumps(([png(1), png(2)[:45]], [True])))
  with pytest.raises(images.BadImageError, match="set/000001"):
    pairs.open_pairs(path, image_size=(4, 4))


def test_the_real_pack(data_folder):
  path = data_folder / "insightface_samples" / "small_lfw.bin"
  with open(path, "rb") as file:
    bins, issame = pickle.load(file)
  pack = packs.read_pack(path)
  expected = [data.tobytes() for data in bins]
  assert len(pack) == 10
  assert [data for pair in contents(pack) for data in pair[:2]] == expected
  assert pack.same.tolist() == issame == [True] * 10
  assert len(pack.files) == len({*expected}) == 17
  found = pairs.open_pairs(path, image_size=(112, 112))
  assert found.source[0].shape == (112, 112, 3)
