"""How far the faces of two tables of landmarks lie apart.

  python scripts/compare_landmarks.py faces/faces.csv points.csv

For each photo of the second table that the first one knows, the mean distance
of the five points, in pixels and as a share of the distance between the eyes.
Of several faces of a photo the nearest counts.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from facejax.data.aligning import table


def faces_of(file: str) -> dict[str, list[np.ndarray]]:
  """The points of all faces, by the path of the photo."""
  found: dict[str, list[np.ndarray]] = {}
  for face in table.read_table(file):
    if face.landmarks is not None:
      found.setdefault(face.path, []).append(face.landmarks)
  return found


def distances(
  found: dict[str, list[np.ndarray]], wanted: dict[str, list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
  """Of the faces wanted whose photo is known, pixels and shares."""
  pixels, shares = [], []
  for path in sorted(found.keys() & wanted.keys()):
    for points in wanted[path]:
      apart = min(
        float(np.hypot(*(face - points).T).mean()) for face in found[path]
      )
      pixels.append(apart)
      shares.append(apart / np.hypot(*(points[1] - points[0])))
  return np.asarray(pixels), np.asarray(shares)


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("found", help="a table of landmarks, such as faces.csv")
  parser.add_argument("wanted", help="the table to compare it with")
  args = parser.parse_args(arguments)
  pixels, shares = distances(faces_of(args.found), faces_of(args.wanted))
  if not len(pixels):
    raise SystemExit("the tables have no photo in common")
  print(f"{len(pixels):,} faces of photos that both tables have")
  for name, values in (("pixels", pixels), ("of the eyes", shares)):
    middle, most = np.quantile(values, [0.5, 0.9])
    print(
      f"{name}: median {middle:.3f}, 90 % within {most:.3f},"
      f" largest {values.max():.3f}"
    )


if __name__ == "__main__":
  main()
