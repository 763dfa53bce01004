import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from facejax.data import images


def pixels(seed=0, size=(12, 10)):
  return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def encode(array, form, **options):
  file = io.BytesIO()
  Image.fromarray(array).save(file, form, **options)
  return file.getvalue()


def png_bomb(width, height):
  """A PNG of 80 bytes that claims to be large."""
  size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(body))
    + kind
    + body
    + struct.pack(">I", zlib.crc32(kind + body))
    for kind, body in chunks
  )


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_decode_exactly(form):
  image = pixels()
  np.testing.assert_array_equal(
    images.decode(encode(image, form), name="x"), image
  )


@pytest.mark.parametrize("form", ["PPM", "PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(form):
  grey = np.full((6, 5), 77, np.uint8)
  image = images.decode(encode(grey, form), name="x")
  np.testing.assert_array_equal(image, np.full((6, 5, 3), 77))


def test_jpeg_equals_pillow_and_ignores_orientation():
  exif = Image.Exif()
  exif[0x0112] = 6  # a quarter turn
  data = encode(pixels(), "JPEG", exif=exif)
  expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
  np.testing.assert_array_equal(images.decode(data, name="x"), expected)


def test_cmyk_jpeg_and_transparent_palette_become_rgb():
  file = io.BytesIO()
  Image.fromarray(pixels()).convert("CMYK").save(file, "JPEG")
  assert images.decode(file.getvalue(), name="x").shape == (12, 10, 3)
  file = io.BytesIO()
  palette = Image.fromarray(pixels()).convert("P")
  palette.save(file, "PNG", transparency=b"\0\1\2")
  assert images.decode(file.getvalue(), name="x").shape == (12, 10, 3)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "is empty"),
    (b"hello, world", "is not an image"),
    (encode(pixels(), "JPEG")[:-40], "damaged JPEG"),
    (encode(pixels(), "PNG")[:100], "damaged PNG"),
    (png_bomb(30000, 30000), "DecompressionBomb"),
    (png_bomb(5000, 5000), "claims 5000 x 5000"),
    (png_bomb(10000, 10000), "DecompressionBomb"),
    (b"P5\n60000 60000\n255\n", "DecompressionBomb"),
    (encode(np.zeros((4, 4), np.uint16), "PNG"), "8 bits"),
  ],
)
def test_bad_images_are_refused_with_name_and_reason(data, reason):
  with pytest.raises(images.BadImageError, match=reason) as caught:
    images.decode(data, name="some.jpg")
  assert "'some.jpg'" in str(caught.value)


def test_jpeg_bomb_is_refused_by_its_header():
  data = bytearray(encode(pixels(), "JPEG"))
  frame = data.index(b"\xff\xc0")
  data[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
  with pytest.raises(images.BadImageError, match="claims 65000 x 65000"):
    images.decode(bytes(data), name="x")


def test_fit_crops_the_centre_and_resizes_only_when_needed():
  image = pixels(size=(8, 8))
  assert images.fit(image, image_size=(8, 8)) is image
  np.testing.assert_array_equal(
    images.fit(image, image_size=(4, 4), crop=0.5), image[2:6, 2:6]
  )
  flat = images.fit(np.full((8, 8, 3), 9, np.uint8), image_size=(3, 5))
  np.testing.assert_array_equal(flat, np.full((3, 5, 3), 9))


def test_shrinking_averages_instead_of_skipping_pixels():
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 254
  small = images.fit(stripes, image_size=(8, 8))
  np.testing.assert_allclose(small[:, 1:-1], 127, atol=4)
