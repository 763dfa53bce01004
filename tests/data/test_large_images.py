"""Images of telephones: reduced JPEGs, HEIC, and videos beside them."""

import importlib.util
import io

import numpy as np
import pytest
from helpers import detectors
from PIL import Image

from facejax.data import decoders, encoded, images
from facejax.data.stores import folder_scan
from facejax.runtime import file_kinds

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
VIDEOS = {
  "mp4": b"\0\0\0\x18ftypisom\0\0\2\0",
  "mov": b"\0\0\0\x14ftypqt  \0\0\0\0",
  "old mov": b"\0\0\0\x08wide\0\0\1\0mdat",
  "avi": b"RIFF\x10\0\0\0AVI LIST",
  "mkv": b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska",
  "ts": b"\x47\x40\0\x10\0\0",
  "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
}
reads_heic = pytest.mark.skipif(
  importlib.util.find_spec("pillow_heif") is None,
  reason="no pillow-heif: pip install 'facejax[heic]'",
)


def waves(width, height):
  """A smooth picture, and which way is up is seen in it."""
  x, y = np.arange(width) / width, np.arange(height)[:, None] / height
  channels = [255 * x + 0 * y, 255 * y + 0 * x, 255 * x * y]
  return np.stack(channels, -1).astype(np.uint8)


@pytest.fixture
def small_limits(monkeypatch):
  """The arithmetic of large images on small ones."""
  monkeypatch.setattr(decoders, "MAX_PIXELS", 64 * 64)
  monkeypatch.setattr(decoders, "MAX_JPEG", 512 * 512)
  monkeypatch.setattr(decoders, "MAX_HEIC", 256 * 256)


@pytest.mark.parametrize(
  ("size", "factor"),
  [
    ((64, 64), 1),
    ((65, 64), 2),
    ((127, 129), 4),  # 64 x 65 is a row too many
    ((128, 128), 2),
    ((251, 201), 4),
    ((509, 512), 8),
    ((16, 3000), 4),
  ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_large_jpegs_come_out_at_a_part_of_their_size(
  size, factor, mode, small_limits
):
  picture = waves(*size)
  file = io.BytesIO()
  Image.fromarray(picture).convert(mode).save(file, "JPEG", quality=95)
  found, reduced = images.decode_reduced(file.getvalue(), name="x")
  assert reduced == factor
  height, width = (-(-side // factor) for side in picture.shape[:2])
  assert found.shape == (height, width, 3)
  assert height * width <= decoders.MAX_PIXELS
  with Image.open(file) as opened:
    whole = np.asarray(opened.convert("RGB"), float)
  # Each pixel is the mean of those that it stands for.
  inner = whole[: size[1] // factor * factor, : size[0] // factor * factor]
  blocks = inner.reshape(
    inner.shape[0] // factor, factor, inner.shape[1] // factor, factor, 3
  ).mean((1, 3))
  apart = np.abs(found[: blocks.shape[0], : blocks.shape[1]] - blocks)
  assert apart.mean() < 1.5


@pytest.mark.parametrize("said", range(1, 9))
def test_large_jpegs_are_turned_as_well(said, small_limits, monkeypatch):
  # From which on Pillow refuses to open them.
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
  picture = waves(200, 120)
  upright, factor = images.decode_reduced(
    detectors.encoded(picture, "JPEG", quality=98), name="x"
  )
  turned, same = images.decode_reduced(
    detectors.encoded(picture, "JPEG", said, quality=98), name="x"
  )
  assert factor == same == 4
  assert turned.shape == upright.shape == (30, 50, 3)
  assert np.abs(turned.astype(int) - upright).max() <= 6
  stored, _ = images.decode_reduced(
    detectors.encoded(picture, "JPEG", said), name="x", exif="ignore"
  )
  assert stored.shape[:2] == ((50, 30) if said > 4 else (30, 50))


def test_what_is_too_large_or_too_short_is_refused(small_limits, monkeypatch):
  file = io.BytesIO()
  Image.new("RGB", (600, 600)).save(file, "JPEG")
  with pytest.raises(images.BadImageError, match="more than 512 x 512"):
    images.decode(file.getvalue(), name="x")
  data = detectors.encoded(waves(500, 400), "JPEG")
  with pytest.raises(images.BadImageError, match="Premature end"):
    images.decode(data[: len(data) // 2], name="x")
  # A head alone claims pixels that must not be waited for.
  monkeypatch.setattr(decoders, "MAX_JPEG", 4096 * 4096)
  data = detectors.encoded(waves(1200, 1200), "JPEG")
  with pytest.raises(images.BadImageError, match="700 bytes cannot hold"):
    images.decode(data[:700], name="x")
  with pytest.raises(images.BadImageError, match="more than 64 x 64"):
    images.decode(detectors.encoded(waves(65, 65)), name="x")


def test_48_megapixels():
  # As telephones make them, and turned.
  small = waves(504, 378)
  large = np.repeat(np.repeat(small, 16, 0), 16, 1)
  data = detectors.encoded(large, "JPEG", 6)
  found, factor = images.decode_reduced(data, name="x")
  assert factor == 2 and found.shape == (3024, 4032, 3)
  blocks = found[::8, ::8].astype(int)
  assert np.abs(blocks - small).mean() < 2


def test_a_source_of_a_training_set_takes_them(small_limits):
  class One:
    num_classes, labels, class_names = 1, np.zeros(1, np.int32), ("a",)

    def __len__(self):
      return 1

    def name(self, index):
      return "a/1.jpg"

    def encoded(self, index):
      return detectors.encoded(waves(300, 300), "JPEG", 3)

  image = encoded.Decoded(One(), image_size=(32, 32))[0]
  expected = np.asarray(Image.fromarray(waves(300, 300)).resize((32, 32)))
  assert np.abs(image.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("kind", VIDEOS)
def test_videos_are_called_so(kind):
  data = VIDEOS[kind] + b"\0" * 100
  assert file_kinds.of_bytes(data) == file_kinds.VIDEO
  with pytest.raises(
    images.BadImageError, match="is a video, not an image: take the pictures"
  ):
    images.decode(data, name="x")


def test_words_are_no_videos():
  for text in (b"The wide world", b"a/b freeze.jpg", b"G@ the moov", b"RIFF"):
    assert file_kinds.of_bytes(text * 100) is None


def test_heic_without_its_reader_says_how_to_get_it(monkeypatch, tmp_path):
  monkeypatch.setattr(decoders, "reads_heic", lambda: False)
  with pytest.raises(
    images.BadImageError,
    match=r"is a HEIC photo; .*'facejax\[heic\]'.* or convert it to JPEG",
  ):
    images.decode(HEIC, name="x")
  (tmp_path / "1.heic").write_bytes(HEIC)
  found = folder_scan.scan(str(tmp_path))
  assert "HEIC photo" in found.damaged[0] and not found.images


def test_avif_is_called_so():
  with pytest.raises(images.BadImageError, match="is an AVIF image"):
    images.decode(HEIC.replace(b"heic", b"avif"), name="x")


@reads_heic
@pytest.mark.parametrize("said", range(1, 9))
def test_heic_is_read_upright(said, small_limits):
  assert decoders.reads_heic()
  for size, factor in (((60, 40), 1), ((96, 64), 2)):
    picture = waves(*size)
    data = detectors.encoded(picture, "HEIF", said, quality=100)
    found, reduced = images.decode_reduced(data, name="x")
    assert reduced == factor
    expected = np.asarray(Image.fromarray(picture).reduce(factor))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 3


@reads_heic
def test_damaged_heic_is_refused():
  assert decoders.reads_heic()
  data = detectors.encoded(waves(64, 64), "HEIF")
  for cut in (30, 200, len(data) - 100):
    with pytest.raises(images.BadImageError, match="damaged HEIF"):
      images.decode(data[:cut], name="x")
