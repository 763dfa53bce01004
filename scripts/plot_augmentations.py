"""Shows every augmentation at several strengths: a row each, a draw a column.

  python scripts/plot_augmentations.py --out sheet.png
  python scripts/plot_augmentations.py --out sheet.png --path faces/
  python scripts/plot_augmentations.py --out docs/augmentations.png \\
    --size 64 --columns 4 --palette 224 --seed 36

The labels are the fields of `data` in a recipe, or flags: `shift=4` is
`--augment.shift 4`. The first row shows the images as they are: generated faces, or
those found below --path. Probabilities are 1, so that every draw is changed; the
last rows show the named policies as they are.
"""

import argparse
import pathlib
import sys
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facejax.data import encoded, images
from facejax.data.augment import augment, policies
from facejax.data.synthetic import faces as synthetic

STRENGTHS: list[dict[str, Any]] = [
  {"mask": 1},
  {"sunglasses": 1},
  {"flip": True},
  {"shift": 4},
  {"shift": 12},
  {"zoom": 0.1, "rotate": 10},
  {"zoom": 0.4, "rotate": 30, "shift": 8},
  {"random_crop": 1, "crop_area": 0.2},
  {"resized_crop": 1, "crop_area": 0.7},
  {"resized_crop": 1, "crop_area": 0.2},
  {"brightness": 0.1, "contrast": 0.2},
  {"brightness": 0.3, "contrast": 0.6},
  {"jitter": 1},
  {"jitter": 1, "jitter_hue": 20},
  {"grey": 1},
  {"blur": 1, "blur_sigma": 1},
  {"blur": 1, "blur_sigma": 4},
  {"motion_blur": 1, "motion_length": 0.1},
  {"motion_blur": 1, "motion_length": 0.3},
  {"downscale": 1, "downscale_side": 0.5},
  {"downscale": 1, "downscale_side": 0.1},
  {"jpeg": 1, "jpeg_quality": 30},
  {"jpeg": 1, "jpeg_quality": 5},
  {"cutout": 1, "cutout_count": 1, "cutout_size": 0.5},
  {"cutout": 1, "cutout_count": 5, "cutout_size": 0.3},
  {"erase": 1},
]
GAP = 2  # pixels
FONT = ImageFont.load_default(13)


def rows() -> list[tuple[str, augment.Augment]]:
  """Labels and what they stand for; the first changes nothing."""
  single = [
    ("\n".join(f"{k}={v}" for k, v in options.items()), options)
    for options in STRENGTHS
  ]
  return [
    ("unchanged", augment.Augment()),
    *((label, augment.Augment(**options)) for label, options in single),
    *(
      (f"policy\n{name!r}", policy)
      for name, policy in policies.POLICIES.items()
      if name != "none"
    ),
  ]


def faces(path: pathlib.Path | None, count: int, size: int) -> list[np.ndarray]:
  """Up to `count` images below a path, or generated ones."""
  if path is None:
    drawn = synthetic.SyntheticFaces(
      num_identities=count, images_per_identity=1, image_size=(size, size)
    )
    return [drawn[i] for i in range(count)]
  found = [path] if path.is_file() else sorted(path.rglob("*"))
  found = [file for file in found if images.is_image_name(file.name)][:count]
  if not found:
    raise FileNotFoundError(f"{path} is no image and no folder that holds any")
  return [
    images.fit(
      images.decode(encoded.read_file(file), name=str(file)),
      image_size=(size, size),
    )
    for file in found
  ]


def sheet(
  originals: list[np.ndarray], *, columns: int, blocks: int, seed: int
) -> Image.Image:
  """Draws the table, cut into blocks that stand side by side."""
  size = originals[0].shape[0] + GAP
  table = rows()
  high = -(-len(table) // blocks)
  lines = [line for label, _ in table for line in label.split("\n")]
  margin = round(max(map(FONT.getlength, lines))) + 14
  wide = margin + columns * size
  page = Image.new("RGB", (blocks * wide, high * size), "white")
  draw = ImageDraw.Draw(page)
  for row, (label, change) in enumerate(table):
    left, top = row // high * wide, row % high * size
    draw.multiline_text(
      (left + margin - 6, top + size // 2),
      label,
      fill="black",
      font=FONT,
      anchor="rm",
      align="right",
      spacing=2,
    )
    for column in range(columns):
      # The strengths of a change show the same draws.
      kind = zlib.crc32(label.partition("=")[0].encode())
      rng = np.random.default_rng([seed, kind, column])
      changed = change(originals[column % len(originals)], rng)
      place = left + margin + column * size, top
      page.paste(Image.fromarray(np.ascontiguousarray(changed)), place)
  return page


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--out", required=True, help="the picture to write, .png or .jpg")
  add("--path", type=pathlib.Path, help="an image, or a folder of images")
  add("--columns", type=int, default=6, help="draws of each (default 6)")
  add("--blocks", type=int, default=2, help="of rows, abreast (default 2)")
  add("--size", type=int, default=112, help="pixels per side (default 112)")
  add("--seed", type=int, default=0, help="of the draws (default 0)")
  add("--palette", type=int, help="at most so many colours: a small file")
  args = parser.parse_args()
  if min(args.columns, args.blocks) < 1 or not 32 <= args.size <= 1024:
    parser.error("--columns, --blocks must be at least 1, --size in 32..1024")
  if args.palette is not None and not 2 <= args.palette <= 256:
    parser.error(f"--palette must lie in 2..256, got {args.palette}")
  return args


def main() -> None:
  args = parse()
  try:
    originals = faces(args.path, args.columns, args.size)
  except (OSError, ValueError) as error:
    print(f"plot_augmentations.py: error: {error}", file=sys.stderr)
    raise SystemExit(2) from None
  page = sheet(
    originals, columns=args.columns, blocks=args.blocks, seed=args.seed
  )
  if args.palette:
    page = page.quantize(args.palette, dither=Image.Dither.NONE)
  page.save(args.out, optimize=True)
  print(f"{args.out}: {len(rows())} rows x {args.columns} draws")


if __name__ == "__main__":
  main()
