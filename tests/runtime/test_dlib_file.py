"""Files that dlib has stored are read to the bit, and damage is named."""

import numpy as np
import pytest
from helpers import dlib_files
from hypothesis import given, settings
from hypothesis import strategies as st

from facejax.models import dlib_resnet
from facejax.runtime import dlib_file

SPEC = dlib_resnet.DlibResNetSpec((1, 1), (4, 6))
DATA, LAYERS = dlib_files.stored(SPEC)


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "net.dat"

  def write(data):
    path.write_bytes(data)
    return path

  return write


def test_all_of_it_is_read(file):
  net = dlib_file.read(file(DATA))
  assert net.loss[0] == "loss_metric_2"
  assert net.loss[1:] == pytest.approx((0.04, 0.6), rel=1e-6)
  assert net.mean == pytest.approx(dlib_files.MEAN, rel=1e-6)
  assert net.image_size == (150, 150)
  for layer, (name, numbers, values) in zip(net.layers, LAYERS, strict=True):
    assert (layer.name, layer.numbers) == (name, tuple(numbers))
    np.testing.assert_array_equal(layer.values, values)


def test_a_file_that_ends_anywhere_is_refused(file):
  # The end of a layer is the end of a shorter net: which layers a net must
  # have is for whoever takes its weights.
  for end in range(len(DATA) - 1, 0, -37):
    try:
      net = dlib_file.read(file(DATA[:end]))
    except ValueError as error:
      assert "is no face net that dlib stored" in str(error)
    else:
      assert len(net.layers) < len(LAYERS)


@settings(max_examples=150, deadline=None)
@given(
  place=st.integers(0, len(DATA) - 1), value=st.binary(min_size=1, max_size=9)
)
def test_damage_is_named_or_read(tmp_path_factory, place, value):
  path = tmp_path_factory.mktemp("damaged") / "net.dat"
  path.write_bytes(DATA[:place] + value + DATA[place + len(value) :])
  try:
    dlib_file.read(path)
  except ValueError as error:
    assert "at byte" in str(error)


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    (b"con_4", b"con_9", "a layer 'con_9'"),
    (b"input_rgb_image_sized", b"input_grayscale_image", "an input"),
    (dlib_files.integer(1), dlib_files.integer(7), "version of a loss"),
    (
      dlib_files.tensor(LAYERS[0][2], len(LAYERS[0][2])),
      dlib_files.tensor(LAYERS[0][2] * np.nan, len(LAYERS[0][2])),
      "not finite",
    ),
    (
      dlib_files.tensor(LAYERS[0][2], len(LAYERS[0][2])),
      b"".join(map(dlib_files.integer, (2, 1 << 40, 1 << 40, 1, 1))),
      "too short for",
    ),
  ],
)
def test_what_it_is_not(file, old, new, message):
  with pytest.raises(ValueError, match=message):
    dlib_file.read(file(DATA.replace(old, new, 1)))


def test_other_files_are_refused(file, tmp_path):
  with pytest.raises(ValueError, match="at byte"):
    dlib_file.read(file(b"PK\x03\x04" + bytes(1000)))
  with pytest.raises(FileNotFoundError, match="none.dat"):
    dlib_file.read(tmp_path / "none.dat")
