"""Detectors for tests: packages as pip lays them out, and one of framed faces."""

import io

import numpy as np
from PIL import Image

from facejax.data import align
from facejax.data.synthetic import faces as synthetic

FRAME = 6

# Finds whatever has a blue frame around it; the points lie in it as in the
# template.
FRAMED = f"""
import numpy as np
from scipy import ndimage
from facejax.data.detectors import contract
PLACES = (np.asarray({align.template().tolist()}) + 0.5) / 112

def detect(image):
  blue = (image[..., 2] > 170) & (image[..., 0] < 90) & (image[..., 1] < 90)
  labels, _ = ndimage.label(ndimage.binary_fill_holes(blue))
  boxes = []
  for rows, columns in ndimage.find_objects(labels):
    if min(rows.stop - rows.start, columns.stop - columns.start) > 20:
      boxes.append([columns.start, rows.start, columns.stop, rows.stop])
  if not boxes:
    return contract.nothing()
  boxes = np.asarray(boxes, float)
  sides = boxes[:, None, 2:] - boxes[:, None, :2]
  points = boxes[:, None, :2] + PLACES * sides - 0.5
  return contract.Faces(boxes - 0.5, np.linspace(0.9, 0.8, len(boxes)), points)
"""


def install(folder, name, body):
  """A package with a detector, as pip would lay it out."""
  folder.mkdir(exist_ok=True)
  package = f"detector_{name}"
  (folder / f"{package}.py").write_text(body)
  info = folder / f"{package}-1.0.dist-info"
  info.mkdir()
  (info / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
  )
  (info / "entry_points.txt").write_text(
    f"[facejax.detectors]\n{name} = {package}:detect\n"
  )


def scene(sides, size=(300, 500)):
  """Drawn people side by side, each in a blue frame: uint8 RGB."""
  picture = np.full((*size, 3), (60, 70, 50), np.uint8)
  left = 15
  for number, side in enumerate(sides):
    people = synthetic.SyntheticFaces(
      num_identities=1,
      images_per_identity=1,
      first_identity=number,
      image_size=(side - 2 * FRAME, side - 2 * FRAME),
    )
    framed = np.full((side, side, 3), (20, 20, 230), np.uint8)
    framed[FRAME:-FRAME, FRAME:-FRAME] = people[0]
    top = 20 + 7 * number
    picture[top : top + side, left : left + side] = framed
    left += side + 9
  return picture


def encoded(pixels, form="PNG", said=1, **options):
  """A file of some pixels as they are when upright, held as EXIF says."""
  exif = Image.Exif()
  exif[0x0112] = said
  # What a viewer does to each, undone.
  undo = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
  }
  picture = Image.fromarray(pixels)
  if said in undo:
    picture = picture.transpose(undo[said])
  file = io.BytesIO()
  picture.save(file, form, exif=exif.tobytes(), **options)
  return file.getvalue()
