"""Made probes and distractors, to see what MegaFace's protocol takes.

  python scripts/made_distractors.py FOLDER
      probes.npz: 1,000 faces of 100 people; distractors.npz: a million, x 128
  /usr/bin/time -v python -m facejax.evaluate RUN --protocol megaface \\
    --path FOLDER/probes.npz --distractors FOLDER/distractors.npz

The figures say nothing about RUN, whose folder only takes the result.
"""

import argparse
import pathlib

import numpy as np

from facejax.runtime import npz

ROWS = 1 << 14


def write(folder: pathlib.Path, faces: int, dim: int, people: int) -> None:
  """Random directions; those of a person lie about one of them."""
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(people), 10)
  centres = rng.standard_normal((people, dim), np.float32)
  probes = centres[labels] + rng.standard_normal((len(labels), dim), np.float32)
  names = np.asarray([f"person {k}" for k in range(people)])
  np.savez(folder / "probes.npz", embeddings=probes, labels=labels, names=names)
  starts = range(0, faces, ROWS)
  npz.write(
    folder / "distractors.npz",
    {"paths": np.asarray([f"{k // 1000}/{k}_0.jpg" for k in range(faces)])},
    large="embeddings",
    shape=(faces, dim),
    blocks=(
      rng.standard_normal((min(ROWS, faces - start), dim), np.float32)
      for start in starts
    ),
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--faces", type=int, default=1_000_000)
  parser.add_argument("--dim", type=int, default=128)
  parser.add_argument("--people", type=int, default=100)
  args = parser.parse_args()
  args.folder.mkdir(parents=True, exist_ok=True)
  write(args.folder, args.faces, args.dim, args.people)


if __name__ == "__main__":
  main()
