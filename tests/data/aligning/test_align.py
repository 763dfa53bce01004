"""Alignment against the golden case, against formulas, and on bad input."""

import collections
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import detectors, paths
from PIL import Image

from facejax.data import align, images
from facejax.data.aligning import command as align_command
from facejax.data.aligning import enrolment
from facejax.data.aligning import folder as align_folder
from facejax.data.aligning import table as align_list

GOLDEN = json.loads((paths.GOLDEN / "golden_align.json").read_text())[
  "align_5pt"
]
POINTS = np.asarray(GOLDEN["src"])


def smooth(size=(250, 250)):
  """A picture that is a formula of its coordinates, and the formula."""

  def formula(x, y):
    return np.stack(
      [
        120 + 100 * np.sin(x / 41) * np.cos(y / 37),
        (101.3 * x + 73.7 * y) / size[0] + 20.25,
        128 + 90 * np.cos((x + y) / 50),
      ],
      axis=-1,
    )

  y, x = np.indices(size)
  return np.rint(formula(x, y)).astype(np.uint8), formula


def apply(matrix, points):
  return points @ matrix[:, :2].T + matrix[:, 2]


def test_golden():
  wanted = np.asarray(GOLDEN["dst_112x112"])
  np.testing.assert_allclose(align.template((112, 112)), wanted, atol=1e-12)
  np.testing.assert_allclose(
    align.template((112, 96)), GOLDEN["dst_112x96"], atol=1e-12
  )
  matrix = align.similarity_transform(POINTS, wanted)
  np.testing.assert_allclose(matrix, GOLDEN["M_2x3"], rtol=0, atol=1e-12)
  np.testing.assert_allclose(
    apply(matrix, POINTS), GOLDEN["mapped"], rtol=0, atol=1e-12
  )


def umeyama(src, dst):
  """Equations 34 to 43 of the paper, by singular values."""
  x, y = src - src.mean(0), dst - dst.mean(0)
  u, d, v = np.linalg.svd(y.T @ x / len(x))
  sign = np.asarray([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
  rotation = u @ np.diag(sign) @ v
  scale = (d * sign).sum() / np.square(x).sum(1).mean()
  linear = scale * rotation
  return np.column_stack([linear, dst.mean(0) - linear @ src.mean(0)])


def test_equals_umeyama_and_never_mirrors():
  rng = np.random.default_rng(0)
  for _ in range(200):
    src, dst = rng.normal(size=(2, 5, 2)) * 30 + 100
    matrix = align.similarity_transform(src, dst)
    np.testing.assert_allclose(matrix, umeyama(src, dst), atol=1e-8)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_recovers_a_similarity():
  rng = np.random.default_rng(1)
  for scale in (1e-3, 0.5, 40.0):
    angle = rng.uniform(0, 2 * np.pi)
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    expected = np.asarray([[a, -b, rng.normal()], [b, a, rng.normal()]])
    found = align.similarity_transform(POINTS, apply(expected, POINTS))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
  # Points on a line are enough: only their places must differ.
  line = np.asarray([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
  found = align.similarity_transform(line, apply(expected, line))
  np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-7)


def test_degenerate_points():
  place = np.full((5, 2), 7.0)
  with pytest.raises(align.LandmarkError, match=r"in one place, about \(7.0"):
    align.similarity_transform(place, align.template())
  for bad in (np.nan, np.inf):
    points = POINTS.copy()
    points[2, 1] = bad
    with pytest.raises(align.LandmarkError, match="not a finite number"):
      align.similarity_transform(points, align.template())
  with pytest.raises(ValueError, match="two arrays"):
    align.similarity_transform(POINTS, POINTS[:4])


def test_template_of_other_sizes():
  # Twice the size is the same face: its pixels halve those of the small one.
  double = align.template((224, 224))
  np.testing.assert_allclose((double + 0.5) / 2 - 0.5, align.template())
  for size in ((112, 100), (0, 0), (8192, 8192), (96, 112)):
    with pytest.raises(ValueError, match="has no template"):
      align.template(size)


def test_points_of_the_template_change_nothing():
  rng = np.random.default_rng(2)
  for size in ((112, 112), (112, 96)):
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    aligned = align.align(image, align.template(size), image_size=size)
    np.testing.assert_array_equal(aligned, image)


def test_whole_pixels_are_copied():
  image = np.random.default_rng(3).integers(0, 256, (150, 160, 3), np.uint8)
  aligned = align.align(image, align.template() + np.asarray([30, 20]))
  np.testing.assert_array_equal(aligned, image[20:132, 30:142])


def test_subpixel_exact():
  image, formula = smooth()
  matrix = align.similarity_transform(POINTS, align.template())
  inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
  y, x = np.indices((112, 112))
  source = np.stack([x, y, np.ones_like(x)], -1) @ inverse[:2].T
  inside = ((source > 0) & (source < 249)).all(-1)
  assert inside.mean() > 0.9
  error = align.align(image, POINTS) - formula(source[..., 0], source[..., 1])
  # Half a level of rounding in the image, half in the result.
  assert np.abs(error[inside]).max() <= 1.1
  assert np.abs(error[inside].mean(0)).max() < 0.02


def test_black_outside():
  image = np.full((120, 120, 3), 200, np.uint8)
  aligned = align.align(image, align.template() + np.asarray([-30, 0]))
  assert (aligned[:, :29] == 0).all() and (aligned[:, 31:] == 200).all()
  shifted = align.align(image, align.template() + np.asarray([-30.25, 0]))
  # Between the edge and the blackness outside.
  assert (shifted[:, 30] == 150).all()


def test_large_faces_are_shrunk_first():
  rng = np.random.default_rng(4)
  # Detail that a small picture cannot hold must vanish, not fold over.
  noise = rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
  points = align.template() * 8.37 + np.asarray([50.4, 61.3])
  kept = align.align(noise, points)
  folded = align.align(noise, points, antialias=False)
  assert kept.std() < 0.2 * folded.std()
  image, formula = smooth((1200, 1200))
  matrix = align.similarity_transform(points, align.template())
  inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
  y, x = np.indices((112, 112))
  source = np.stack([x, y, np.ones_like(x)], -1) @ inverse[:2].T
  for antialias in (False, True):
    error = align.align(image, points, antialias=antialias) - formula(
      source[..., 0], source[..., 1]
    )
    assert np.abs(error.mean((0, 1))).max() < 0.1
    assert np.abs(error).max() < (3 if antialias else 1.1)


@pytest.mark.parametrize(
  ("points", "match"),
  [
    (POINTS * np.nan, "finite"),
    (POINTS[:4], "five points"),
    (np.full((5, 2), 60.0), "within a pixel"),
    (POINTS + 400, "outside of the image"),
    (POINTS - 5000, "outside of the image"),
    (POINTS * [100, 1] - [12000, 0], "outside of the image"),
    (POINTS[[1, 0, 2, 4, 3]], "left and right are exchanged"),
    (POINTS * 1e300, "outside of the image"),
  ],
)
def test_landmarks_that_cannot_be(points, match):
  image = np.zeros((250, 250, 3), np.uint8)
  with pytest.raises(align.LandmarkError, match=match):
    align.align(image, points)


def test_all_landmarks_of_lfw_are_accepted(data_folder):
  table = data_folder / "lfw_112_landmarks.csv"
  faces = list(align_list.read_table(table))
  assert len(faces) == 13233
  wanted = align.template()
  errors = []
  for face in faces:
    assert not face.complaint
    points = align.check_landmarks(face.landmarks, (250, 250, 3))
    matrix = align.similarity_transform(points, wanted)
    errors.append(np.abs(apply(matrix, points) - wanted).mean())
  assert np.mean(errors) < 2.5


# The folder.


def write_photos(root, count=6, suffix=".jpg"):
  """Photos of a formula, with the landmarks of a face in each."""
  image, _ = smooth()
  rng = np.random.default_rng(5)
  rows = []
  for shot in range(count):
    person = root / f"p{shot % 3}"
    person.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(person / f"{shot}{suffix}", quality=95)
    points = POINTS + rng.normal(size=(5, 2))
    numbers = ",".join(f"{value:.3f}" for value in points.ravel())
    rows.append(f"p{shot % 3}/{shot}{suffix},{numbers}")
  return rows


def write_table(path, rows):
  header = "path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"
  path.write_text("\n".join([header, *rows]) + "\n")
  return str(path)


def run(*arguments):
  return align_command.main([str(argument) for argument in arguments])


def files_under(root):
  return sorted(
    os.path.relpath(os.path.join(folder, file), root)
    for folder, _, files in os.walk(root)
    for file in files
  )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder(tmp_path, capsys, workers):
  rows = write_photos(tmp_path / "src", 3)
  rows += write_photos(tmp_path / "src", 3, ".png")[1:2]
  # The same place as p0/0.jpg would have.
  rows += [f"p0/0.png,{rows[0].partition(',')[2]}"]
  rows[1] += ",0.94,yunet"
  table = write_table(tmp_path / "points.csv", rows)
  source, target = tmp_path / "src", tmp_path / "dst"
  options = ["--landmarks", table, "--size", 112, 96, "--quality", 100]
  assert run(source, target, *options, "--workers", workers) == 0
  out, err = capsys.readouterr()
  assert out == f"{target}: 3 aligned, 2 left out: 2 listed twice\n"
  assert err.count("left out: ") == 2 and "p1/1.png" in err
  assert files_under(target) == [
    *("align.json", "enrolment.json", "p0/0.jpg", "p1/1.jpg", "p2/2.jpg")
  ]
  assert enrolment.read(target) == (0, 3)
  for row in rows[:3]:
    name, *numbers = row.split(",")[:11]
    photo = images.decode((source / name).read_bytes(), name=name)
    points = np.asarray(numbers, float).reshape(5, 2)
    expected = align.align(photo, points, image_size=(112, 96))
    found = images.decode((target / name).read_bytes(), name=name)
    assert found.shape == (112, 96, 3)
    assert np.abs(found.astype(int) - expected).mean() < 1.5


def test_goes_on_where_it_was_stopped(tmp_path, capsys):
  rows = write_photos(tmp_path / "src")
  source, target = tmp_path / "src", tmp_path / "dst"
  table = write_table(tmp_path / "points.csv", rows)
  options = ["--landmarks", table, "--workers", 0]
  assert run(source, target, *options) == 0
  whole = {name: (target / name).read_bytes() for name in files_under(target)}
  # As a killed run leaves it: one not begun, one half written.
  (target / "p0/0.jpg").unlink()
  (target / "p1/1.jpg").rename(target / "p1/.1.jpg.part")
  (target / "p1/.1.jpg.part").write_bytes(b"\xff\xd8")
  kept = (target / "p2/2.jpg").stat().st_mtime_ns
  capsys.readouterr()
  assert run(source, target, *options) == 0
  assert "2 aligned, 4 already there\n" in capsys.readouterr().out
  assert files_under(target) == sorted(whole)
  for name, data in whole.items():
    assert (target / name).read_bytes() == data
  assert (target / "p2/2.jpg").stat().st_mtime_ns == kept
  assert run(source, target, *options, "--size", 112, 96) == 2
  assert "were aligned otherwise" in capsys.readouterr().err


def test_what_is_left_out(tmp_path, capsys):
  rows = write_photos(tmp_path / "src", 2)
  source, target = tmp_path / "src", tmp_path / "dst"
  outside = tmp_path / "secret.jpg"
  outside.write_bytes((source / "p0/0.jpg").read_bytes())
  (source / "p0/empty.jpg").write_bytes(b"")
  (source / "p0/text.jpg").write_text("not an image")
  bomb = b"P5\n60000 60000\n255\n"
  (source / "p0/bomb.pgm").write_bytes(bomb)
  (source / "p0/far.jpg").write_bytes(outside.read_bytes())
  (source / "p0/nan.jpg").write_bytes(outside.read_bytes())
  numbers = rows[0].partition(",")[2]
  rows += [
    f"../secret.jpg,{numbers}",
    f"p0/../../secret.jpg,{numbers}",
    f"{outside},{numbers}",
    f"p0\\..\\..\\secret.jpg,{numbers}",
    f"p0/absent.jpg,{numbers}",
    f"p0/empty.jpg,{numbers}",
    f"p0/text.jpg,{numbers}",
    f"p0/bomb.pgm,{numbers}",
    f"p0,{numbers}",
    f",{numbers}",
    f"p0/\0.jpg,{numbers}",
    f"{'a' * 3000}.jpg,{numbers}",
    "p0/far.jpg," + ",".join(["9000"] * 10),
    "p0/nan.jpg," + ",".join(["nan"] * 10),
    "p0/short.jpg,1,2,3",
    "p0/words.jpg," + ",".join(["left"] * 10),
    "p1/1.jpg," + numbers,
  ]
  table = write_table(tmp_path / "points.csv", rows)
  assert run(source, target, "--landmarks", table, "--workers", 0) == 0
  out, err = capsys.readouterr()
  assert "2 aligned, 17 left out:" in out
  for reason in (
    "4 path that leads out of the folder",
    "3 image that cannot be read",
    "3 no such image",
    "2 path that is no file's",
    "2 landmarks that cannot be right",
    "2 malformed line",
    "1 listed twice",
  ):
    assert reason in out
  assert err.count("left out: ") == 10
  assert files_under(target) == [
    *("align.json", "enrolment.json", "p0/0.jpg", "p1/1.jpg")
  ]
  # What no photo is to blame for is nobody's failure.
  assert enrolment.read(target) == (5, 7)
  assert sorted(os.listdir(tmp_path)) == [
    *("dst", "points.csv", "secret.jpg", "src")
  ]


def test_names_that_are_not_utf8(tmp_path, capsys):
  rows = write_photos(tmp_path / "src", 1)
  odd = os.fsencode(tmp_path / "src") + b"/p0/\xff.jpg"
  os.rename(tmp_path / "src/p0/0.jpg", odd)
  numbers = rows[0].partition(",")[2]
  table = tmp_path / "points.csv"
  table.write_bytes(b"p0/\xff.jpg," + numbers.encode() + b"\nq\xfe.jpg,1\n")
  options = ["--landmarks", table, "--workers", 2]
  assert run(tmp_path / "src", tmp_path / "dst", *options) == 0
  assert os.listdir(os.fsencode(tmp_path) + b"/dst/p0") == [b"\xff.jpg"]
  out, err = capsys.readouterr()
  assert "1 aligned, 1 left out" in out and "q\\xfe.jpg" in err


def test_mistakes_of_the_user(tmp_path, capsys):
  rows = write_photos(tmp_path / "src", 1)
  source, target = tmp_path / "src", tmp_path / "dst"
  table = write_table(tmp_path / "points.csv", rows)

  def fails(*arguments):
    assert run(*arguments, "--workers", 0) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error

  (tmp_path / "other").mkdir()
  points = ["--landmarks", table]
  assert "no table" in fails(source, target, "--landmarks", tmp_path / "no")
  assert "no folder" in fails(tmp_path / "no", target, *points)
  assert "write to another folder" in fails(source, source, *points)
  assert "write to another folder" in fails(source, source / "out", *points)
  assert "no template" in fails(source, target, *points, "--size", 100, 90)
  assert "none of 1 images could be aligned; the first: p0/0" in fails(
    tmp_path / "other", target, *points
  )
  (tmp_path / "empty.csv").write_text("")
  assert "none of 0 images" in fails(
    source, target, "--landmarks", tmp_path / "empty.csv"
  )
  (tmp_path / "long.csv").write_text('"' + "a" * 200_000)
  assert "line 1 is no CSV" in fails(
    source, target, "--landmarks", tmp_path / "long.csv"
  )
  for bad in (["--quality", "101"], ["--size", "112"], ["--workers", "-1"]):
    with pytest.raises(SystemExit, match="2"):
      run(source, target, *points, *bad)


def test_random_tables_never_crash(tmp_path):
  rows = write_photos(tmp_path / "src", 2)
  good = "\n".join(rows).encode()
  rng = np.random.default_rng(6)
  table = tmp_path / "points.csv"
  settings = align_folder.Settings(str(tmp_path / "src"), str(tmp_path / "dst"))
  kinds = collections.Counter()
  for _ in range(500):
    data = bytearray(good)
    for place in rng.integers(0, len(data), rng.integers(1, 8)):
      data[place] = rng.choice([rng.integers(0, 256), *b'",\n./-e9\0'])
    table.write_bytes(data[: rng.integers(1, len(data) + 1)])
    try:
      faces = list(align_list.read_table(table))
    except ValueError:
      continue
    kinds += align_folder.align_folder(faces, settings)
  assert len(kinds) > 4
  assert set(os.listdir(tmp_path)) == {"src", "dst", "points.csv"}


# Detectors.


DETECT = f"""
import numpy as np
POINTS = np.asarray({POINTS.tolist()})
def detect(image):
  assert image.dtype == np.uint8 and image.shape == (250, 250, 3)
  if image[..., 0].max() == 0:
    return np.zeros((0, 5, 2))
  # A small one in the middle, a large one at the edge, one to be taken.
  small = (POINTS - POINTS.mean(0)) * 0.3 + 124.5
  return np.stack([small, POINTS * 1.1 - 120, POINTS, POINTS * np.nan])
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_detector(tmp_path, capsys, workers, monkeypatch):
  place = tmp_path / "site"
  place.mkdir()
  detectors.install(place, f"fake{workers}", DETECT)
  monkeypatch.syspath_prepend(place)
  rows = write_photos(tmp_path / "src", 2)
  Image.new("RGB", (250, 250)).save(tmp_path / "src/p0/black.jpg")
  Image.new("RGB", (250, 250)).save(tmp_path / "src/p0/.hidden.jpg")
  options = ["--detector", f"fake{workers}", "--workers", workers]
  assert run(tmp_path / "src", tmp_path / "dst", *options) == 0
  out, err = capsys.readouterr()
  assert "2 aligned, 1 left out: 1 photo without a face" in out
  assert enrolment.read(tmp_path / "dst") == (1, 3)
  assert "p0/black.jpg" in err and "none was found" in err
  name = rows[0].partition(",")[0]
  photo = images.decode((tmp_path / "src" / name).read_bytes(), name=name)
  found = images.decode((tmp_path / "dst" / name).read_bytes(), name=name)
  expected = align.align(photo, POINTS)
  assert np.abs(found.astype(int) - expected).mean() < 2


def test_broken_detectors(tmp_path, capsys, monkeypatch):
  place = tmp_path / "site"
  place.mkdir()
  detectors.install(place, "shapeless", "def detect(image): return [[1, 2]]")
  detectors.install(place, "unloadable", "import no_such_package")
  detectors.install(place, "lacking", "")
  monkeypatch.syspath_prepend(place)
  write_photos(tmp_path / "src", 1)

  def fails(name, workers=0):
    arguments = ["--detector", name, "--workers", workers]
    assert run(tmp_path / "src", tmp_path / "dst", *arguments) == 2
    return capsys.readouterr().err

  assert "array [n, 5, 2], got (1, 2)" in fails("shapeless")
  assert "no_such_package" in fails("unloadable")
  assert "'lacking' cannot be loaded" in fails("lacking")
  assert "cannot be loaded" in fails("unloadable", workers=1)
  message = fails("absent")
  assert "lacking, shapeless, unloadable" in message


def test_run_as_a_module(tmp_path):
  rows = write_photos(tmp_path / "src", 2)
  table = write_table(tmp_path / "points.csv", rows)
  command = [sys.executable, "-W", "error", "-m", "facejax.data.align"]
  done = subprocess.run(
    [
      *(*command, tmp_path / "src", tmp_path / "dst"),
      *("--landmarks", table, "--workers", "2"),
    ],
    capture_output=True,
    text=True,
    check=True,
  )
  # A slow machine prints its progress before.
  assert done.stdout.splitlines()[-1] == f"{tmp_path / 'dst'}: 2 aligned"
  assert done.stderr == ""
