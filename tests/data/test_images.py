import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from facejax.data import images, oddities


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


def with_orientation(form, said, **options):
  exif = Image.Exif()
  exif[0x0112] = said
  return encode(pixels(), form, exif=exif, **options)


def with_stray_bytes(data, stray=b"\0" * 5):
  tables = data.index(b"\xff\xdb")
  return data[:tables] + stray + data[tables:]


def with_bad_profile(data):
  piece = b"ICC_PROFILE\0" + bytes([5, 2]) + b"x" * 10
  return with_stray_bytes(
    data, b"\xff\xe2" + struct.pack(">H", 2 + len(piece)) + piece
  )


def with_xmp_orientation(said):
  xmp = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org'
    b'/1999/02/22-rdf-syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe'
    b'.com/tiff/1.0/"><tiff:Orientation>%d</tiff:Orientation></rdf:Description>'
    b"</rdf:RDF></x:xmpmeta>" % said
  )
  return encode(pixels(), "JPEG", xmp=xmp)


def in_mode(mode, form, **options):
  file = io.BytesIO()
  Image.fromarray(pixels()).convert(mode).save(file, form, **options)
  return file.getvalue()


def animated(form):
  file = io.BytesIO()
  frames = [Image.fromarray(pixels(k)) for k in range(3)]
  frames[0].save(file, form, save_all=True, append_images=frames[1:])
  return file.getvalue()


ODDITIES = {
  **{
    f"{form} orientation {said}": with_orientation(form, said)
    for form in ("JPEG", "PNG", "WEBP", "TIFF")
    for said in (*range(1, 9), 9)
  },
  **{f"XMP orientation {said}": with_xmp_orientation(said) for said in (3, 6)},
  "CMYK": in_mode("CMYK", "JPEG"),
  "CMYK, turned": in_mode(
    "CMYK",
    "JPEG",
    exif=Image.open(io.BytesIO(with_orientation("JPEG", 6))).getexif(),
  ),
  "CMYK TIFF": in_mode("CMYK", "TIFF"),
  "grey JPEG": in_mode("L", "JPEG"),
  "LA": in_mode("LA", "PNG"),
  "P": in_mode("P", "PNG"),
  "P with transparency": in_mode("P", "PNG", transparency=b"\0\1\2"),
  "RGBA": in_mode("RGBA", "PNG"),
  "1": in_mode("1", "PNG"),
  "I;16": encode(np.arange(120, dtype=np.uint16).reshape(12, 10) * 3, "PNG"),
  "I": encode(np.arange(120, dtype=np.int32).reshape(12, 10), "TIFF"),
  "progressive": encode(pixels(), "JPEG", progressive=True),
  "subsampled": encode(pixels(size=(33, 31)), "JPEG", subsampling=2),
  "1 x 1": encode(pixels(size=(1, 1)), "JPEG"),
  "animated GIF": animated("GIF"),
  "animated WebP": animated("WEBP"),
  "stray bytes": with_stray_bytes(encode(pixels(), "JPEG")),
  "bad profile": with_bad_profile(encode(pixels(), "JPEG")),
  "stray bytes, turned": with_stray_bytes(with_orientation("JPEG", 8)),
  "bytes behind the end": encode(pixels(), "JPEG") + b"rubbish",
}


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("oddity", ODDITIES)
def test_pictures_are_those_of_pillow_upright(oddity):
  opened = Image.open(io.BytesIO(ODDITIES[oddity]))
  expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"), int)
  found = images.decode(ODDITIES[oddity], name="x")
  assert found.dtype == np.uint8 and found.flags.c_contiguous
  np.testing.assert_allclose(found, expected, rtol=0, atol=1)


def test_orientation_is_ignored_where_that_is_asked_for():
  data = with_orientation("JPEG", 6)
  expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
  found = images.decode(data, name="x", exif="ignore")
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ("data", "kind"),
  [
    (ODDITIES["stray bytes"], images.ODD_JPEG),
    (ODDITIES["bad profile"], images.ODD_JPEG),
    (ODDITIES["I;16"], images.ODD_DEPTH),
  ],
)
def test_odd_pictures_are_counted_and_the_first_are_named(data, kind, caplog):
  before = oddities.counted(kind)
  for _ in range(4):
    images.decode(data, name="odd.jpg")
  assert oddities.counted(kind) == before + 4
  if not before:
    assert len(caplog.messages) == 3 and "'odd.jpg'" in caplog.text


def test_what_pillow_fills_with_grey_stays_refused():
  data = encode(pixels(size=(64, 64)), "JPEG", quality=95)
  for cut in (data[:-60] + data[-2:], data[:-2], data[:-40]):
    with pytest.raises(images.BadImageError, match="damaged JPEG"):
      images.decode(cut, name="x")


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
    (encode(pixels(), "JPEG")[:300], "damaged JPEG image: its head is cut"),
    (encode(pixels(), "PNG")[:100], "damaged PNG"),
    (png_bomb(30000, 30000), "DecompressionBomb"),
    (png_bomb(5000, 5000), "claims 5000 x 5000"),
    (png_bomb(10000, 10000), "DecompressionBomb"),
    (b"P5\n60000 60000\n255\n", "DecompressionBomb"),
    (encode(np.zeros((4, 4), np.float32), "TIFF"), "mode F.*8 bits"),
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
