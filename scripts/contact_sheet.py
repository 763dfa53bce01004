"""Lays out the first images of a data set: a row per identity.

  python scripts/contact_sheet.py --out sheet.png
  python scripts/contact_sheet.py --out sheet.png --source folder --path faces/

A look at the sheet shows at once whether labels, crops and colours are right.
"""

import argparse

import numpy as np
from PIL import Image

from facejax.data import encoded, sources
from facejax.data.stores import folder
from facejax.data.synthetic import faces


def sheet(source: sources.Source, identities: int, images: int) -> np.ndarray:
  """Returns the sheet, uint8 [identities * height, images * width, 3].

  Identities with fewer images than asked for leave the rest of the row black.
  """
  height, width, _ = source[0].shape
  page = np.zeros((identities * height, images * width, 3), np.uint8)
  for row in range(identities):
    for column, index in enumerate(
      np.flatnonzero(source.labels == row)[:images].tolist()
    ):
      top, left = row * height, column * width
      page[top : top + height, left : left + width] = source[index]
  return page


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", required=True, help="the picture to write, .png or .jpg")
  add("--source", choices=("synthetic", "folder"), default="synthetic")
  add("--path", help="with --source folder: ROOT of ROOT/IDENTITY/IMAGE.jpg")
  add("--identities", type=int, default=8, help="rows (default 8)")
  add("--images", type=int, default=10, help="columns (default 10)")
  add("--first", type=int, default=0, help="first synthetic identity")
  add("--seed", type=int, default=0, help="seed of the synthetic faces")
  add("--size", type=int, default=112, help="pixels per side (default 112)")
  args = parser.parse_args()
  if (args.source == "folder") != (args.path is not None):
    parser.error("--path goes with --source folder, and with nothing else")
  if min(args.identities, args.images, args.size) < 1:
    parser.error("--identities, --images and --size must be at least 1")
  return args


def main() -> None:
  args = parse()
  size = (args.size, args.size)
  if args.source == "folder":
    files = folder.ImageFolder(args.path)
    source = encoded.Decoded(files, image_size=size)
  else:
    source = faces.SyntheticFaces(
      num_identities=args.identities,
      images_per_identity=args.images,
      first_identity=args.first,
      seed=args.seed,
      image_size=size,
    )
  identities = min(args.identities, source.num_classes)
  page = sheet(source, identities, args.images)
  Image.fromarray(page).save(args.out)
  print(f"{args.out}: {identities} identities x {args.images} images")


if __name__ == "__main__":
  main()
