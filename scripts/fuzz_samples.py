"""Small valid files of every format, for `fuzz_targets.py`."""

import hashlib
import io
import json
import pathlib
import pickle
import struct
import tempfile
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from fuzz_mutations import Files
from PIL import Image

FORMS = ("jpeg", "png", "netpbm", "gif", "bmp", "webp", "tiff")


def picture(form: str = "jpeg", *, mode: str = "RGB", seed: int = 0) -> bytes:
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
  file = io.BytesIO()
  image = Image.fromarray(pixels).convert(mode)
  image.save(file, "PPM" if form == "netpbm" else form)
  return file.getvalue()


def pictures(form: str) -> Callable[[], list[Files]]:
  """Returns what makes images of a format, and one that claims to be huge."""
  modes = {
    "jpeg": ("RGB", "L", "CMYK"),
    "png": ("RGB", "L", "P", "RGBA", "1"),
    "netpbm": ("RGB", "L", "1"),
    "gif": ("RGB", "L"),
    "bmp": ("RGB", "L", "1"),
    "webp": ("RGB", "RGBA"),
    "tiff": ("RGB", "L", "1", "CMYK"),
  }[form]

  def make() -> list[Files]:
    whole = [picture(form, mode=mode) for mode in modes]
    if form == "netpbm":
      whole += [b"P2\n3 2\n255\n0 1 2 3 4 255\n", b"P1\n2 2\n0 1 1 0\n"]
    elif form == "tiff":
      file = io.BytesIO()
      small = Image.open(io.BytesIO(whole[0]))
      small.save(file, "TIFF", compression="tiff_lzw")
      whole.append(file.getvalue())
    elif form == "jpeg":
      file = io.BytesIO()
      Image.open(io.BytesIO(whole[0])).save(file, "JPEG", progressive=True)
      whole.append(file.getvalue())
    return [{"image": data} for data in [*whole, _huge(form, whole[0])]]

  return make


def _huge(form: str, data: bytes) -> bytes:
  """Returns an image that claims more pixels than fit in memory."""
  changed = bytearray(data)
  if form == "jpeg":
    struct.pack_into(">HH", changed, data.index(b"\xff\xc0") + 5, 65500, 65500)
  elif form == "png":
    struct.pack_into(">II", changed, 16, 60000, 60000)
    struct.pack_into(">I", changed, 29, zlib.crc32(changed[12:29]))
  elif form == "netpbm":
    return b"P6\n99999 99999\n255\n" + bytes(30)
  elif form == "gif":
    struct.pack_into("<HH", changed, 6, 65535, 65535)
  elif form == "bmp":
    struct.pack_into("<ii", changed, 18, 2**30, 2**30)
  elif form == "webp":
    return b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6
  else:
    for tag in (256, 257):
      place = data.index(struct.pack("<HHI", tag, 4, 1))
      struct.pack_into("<I", changed, place + 8, 2**31 - 1)
  return bytes(changed)


def record_io() -> list[Files]:
  """InsightFace's layout, im2rec's, a split record, no index, no list."""
  from facejax.data.stores import record_io_write as write

  faces = [picture(seed=k) for k in range(5)]
  faces[3] += bytes(-len(faces[3]) % 4) + write.MAGIC_BYTES * 2 + b"end"
  labels = [0, 0, 1, 2, 2]
  records = [
    (key, write.image_payload(label, key, face))
    for key, (label, face) in enumerate(zip(labels, faces, strict=True), 1)
  ]
  records.append((0, write.header_payload(6, 9)))
  for key, span in enumerate([(1, 3), (3, 4), (4, 6)], 6):
    records.append((key, write.identity_payload(key, *span)))
  scalar = [
    (key, struct.pack("<IfQQ", 0, label, key, 0) + face)
    for key, (label, face) in enumerate(zip(labels, faces, strict=True))
  ]
  lists = [
    "".join(
      f"{first + k}\t{label}.000\tp{label}/{k}.jpg\n"
      for k, label in enumerate(labels)
    ).encode()
    for first in (1, 0)
  ]
  whole, plain = _records(records), _records(scalar)
  size = {"property": b"3,112,112"}
  without = {"train.rec": whole["train.rec"]}
  return [
    {**whole, **size, "train.lst": lists[0]},
    {**plain, **size, "train.lst": lists[1]},
    {**whole, "train.lst": lists[0]},
    {**without, "train.idx": whole["train.idx"], "train.lst": lists[0]},
  ]


def record_io_bare() -> list[Files]:
  """A `.rec` alone."""
  return [{"train.rec": files["train.rec"]} for files in record_io()]


def _records(records: Sequence[tuple[int, bytes]]) -> Files:
  from facejax.data.stores import record_io_write as write

  rec, idx = b"", ""
  for key, payload in records:
    idx += f"{key}\t{len(rec)}\n"
    rec += write.pack(payload)
  return {"train.rec": rec, "train.idx": idx.encode()}


def array_records() -> list[Files]:
  from array_record.python import array_record_module

  from facejax.data.stores import array_records

  labels, shards = np.asarray([0, 0, 1, 2], np.int32), {}
  with tempfile.TemporaryDirectory() as folder:
    for shard in range(2):
      name = f"images-{shard:05d}-of-00002.array_record"
      path = pathlib.Path(folder, name)
      writer = array_record_module.ArrayRecordWriter(
        str(path), array_records.WRITER_OPTIONS
      )
      for k in (2 * shard, 2 * shard + 1):
        record = array_records.Record(
          int(labels[k]), b"%d.jpg" % k, picture(seed=k)
        )
        writer.write(array_records.pack(record))
      writer.close()
      shards[name] = path.read_bytes()
  array = io.BytesIO()
  np.save(array, labels)
  files = {"labels.npy": array.getvalue()}

  def pieces(content: Files, images: int) -> list[dict]:
    return [
      {
        **{"file": name, "offset": 0, "images": images, "bytes": len(data)},
        "sha256": hashlib.sha256(data).hexdigest(),
      }
      for name, data in content.items()
    ]

  header = {
    **{"format": "facejax images", "version": 1, "kind": "array_record"},
    **{"images": 4, "identities": 3, "shuffle": None, "shard_count": 2},
    "source": {"kind": "folder", "fingerprint": "ab" * 32},
    "shards": pieces(shards, 2),
    "files": pieces(files, 0),
    "class_names": ["Ann", "Bo", "C\u00e9"],
  }
  return [{"facejax.json": json.dumps(header).encode(), **files, **shards}]


def tfds() -> list[Files]:
  from facejax.data import tfds_builder

  with tempfile.TemporaryDirectory() as folder:
    for k in range(4):
      path = pathlib.Path(folder, "faces", f"p{k // 2}", f"{k}.jpg")
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(picture(seed=k))
    made = tfds_builder.build(
      pathlib.Path(folder, "faces"), pathlib.Path(folder), name="faces_small"
    )
    return [
      {
        path.name: path.read_bytes()
        for path in sorted(pathlib.Path(made).iterdir())
      }
    ]


def packs_bin() -> list[Files]:
  """Lists of bytes and of arrays, by several protocols."""
  files = [picture(seed=k) for k in range(4)]
  arrays = [np.frombuffer(data, np.uint8)[:, None] for data in files]
  same = [True, False]
  made = [
    pickle.dumps((members, labels), protocol)
    for members in (files, arrays, [bytearray(data) for data in files])
    for labels in (same, [np.bool_(x) for x in same])
    for protocol in range(6)
  ]
  return [{"pack.bin": data} for data in made]


def packs_npz() -> list[Files]:
  """The arrays of a pack, each as a `.npy`; `fuzz_targets` zips them."""
  data = [picture(seed=k) for k in range(4)]
  arrays = {
    "version": np.asarray([1], np.int32),
    "images": np.frombuffer(b"".join(data), np.uint8),
    "ends": np.cumsum([len(image) for image in data], dtype=np.int64),
    "names": np.frombuffer(b"a/1\0a/2\0b/1\0c/1\0", np.uint8),
    "first": np.asarray([0, 0], np.int32),
    "second": np.asarray([1, 2], np.int32),
    "same": np.asarray([True, False]),
    "fold": np.asarray([0, 1], np.int32),
  }
  files = {}
  for name, array in arrays.items():
    file = io.BytesIO()
    np.save(file, array)
    files[f"{name}.npy"] = file.getvalue()
  return [files]


def lfw_lists() -> list[Files]:
  folds = "2\t1\nAnn\t1\t2\nAnn\t1\tBo\t1\nBo\t1\t2\nBo\t2\tCe\t1\n"
  plain = "2\nAnn\t1\t2\nBo\t1\t2\nAnn\t1\tBo\t1\nBo\t2\tCe\t1\n"
  return [
    {"pairs.txt": folds.encode()},
    {"pairs.txt": plain.encode()},
    {"people.txt": b"2\n2\nAnn\t2\nBo\t2\n1\nCe\t1\n"},
    {"people.txt": b"2\nAnn\t2\nBo\t2\n"},
    {"names.txt": b"# people\nAnn\nBo\tmore\nCe\n"},
  ]


def protocols() -> list[Files]:
  agedb = b"1_Ann_20.jpg 2_Ann_50.jpg 1\n1_Ann_20.jpg 3_Bo_50.jpg -1\n"
  calfw = b"Ann_0001.jpg 1\nAnn_0002.jpg 1\nAnn_0001.jpg 0\nBo_0001.jpg 0\n"
  lfw = b"1\t1\nAnn\t1\t2\nAnn\t1\tBo\t1\n"
  return [
    *({"agedb.txt": agedb}, {"guess-agedb.txt": agedb}),
    *({"calfw.txt": calfw}, {"cplfw.txt": calfw}, {"guess-calfw.txt": calfw}),
    *({"lfw.txt": lfw}, {"guess-lfw.txt": lfw}),
    *({"rfw.txt": lfw[4:]}, {"guess-rfw.txt": lfw[4:]}),
    {
      "bfw.txt": b"fold,p1,p2,label,x\n1,a/1.jpg,a/2.jpg,1,\n5,a/1.jpg,b/1.jpg,0,\n"
    },
  ]


def cfp() -> list[Files]:
  frontal = "".join(
    f"{10 * k + n} ../Data/Images/{k + 1:03d}/frontal/{n:02d}.jpg\n"
    for k in range(2)
    for n in range(1, 11)
  )
  profile = "".join(
    f"{4 * k + n} ../Data/Images/{k + 1:03d}/profile/{n:02d}.jpg\n"
    for k in range(2)
    for n in range(1, 5)
  )
  return [
    {
      "Pair_list_F.txt": frontal.encode(),
      "Pair_list_P.txt": profile.encode(),
      **{
        f"Split/{kind}/01/{what}.txt": pairs
        for kind in ("FF", "FP")
        for what, pairs in (("same", b"1,2\n3,4\n"), ("diff", b"1,7\n2,8\n"))
      },
    }
  ]


def templates() -> list[Files]:
  points = " ".join(f"{k}.5" for k in range(10))
  return [
    {"images.txt": b"1.jpg 1 69544\n2.jpg 1 69544\n3.jpg 2 7\n"},
    {"faces.txt": f"1.jpg {points} 0.99\n2.jpg {points} 1e-3\n".encode()},
    {"pairs.txt": b"1 11065 1\n2 3 0\n"},
    {"enrolled.csv": b"TEMPLATE_ID,SUBJECT_ID,FILENAME\n1,5,a.jpg\n2,6,b\n"},
  ]


def landmarks() -> list[Files]:
  """A table with a header, as detectors write it, and one without."""
  points = "18.5,20,30,20.25,24,27,19,34,29,33.5"
  rows = "".join(f"Ann/{k}.jpg,{points},0.9,yunet\n" for k in range(3))
  names = ",".join(f"x{k},y{k}" for k in range(1, 6))
  return [
    {"landmarks.csv": f"path,{names},score,how\n{rows}".encode()},
    {"landmarks.csv": rows.replace(",0.9,yunet", "").encode()},
  ]
