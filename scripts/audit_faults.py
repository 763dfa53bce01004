"""Faults of known number in a set of people: how many an audit finds.

A seed decides which. A tenth of the images get another person's name, one person in
twenty is cut in two, and one image in a hundred is there a second time under
another name, stored anew. Precision and recall are told for each kind, at the
thresholds that the audit chooses and at recall 0.8. With --train SEEDS nets are
trained on the faulty set, on what the audit makes of it and on the set as it was,
and are verified on the same pairs.

  python scripts/audit_faults.py RUN --people sets/lfw_112 --fewest 5 --out work
  python scripts/audit_faults.py RUN --generated 200 --out work --seeds 0 1 2
  python scripts/audit_faults.py RUN --generated 200 --out work --train 0 1 2 \\
    --pairs pairs.txt --pairs-path images -- --config cosface.py:small
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from facejax import audit
from facejax.data import corrections
from facejax.data.synthetic import faces
from facejax.evaluation.audits import decisions, duplicates, judge

# Shares of images, of people, of images.
FLIPPED, CUT, COPIED = 0.1, 0.05, 0.01
# Nobody of the presets is among them.
FIRST = 5000
IMAGES = 20


class Faulty(NamedTuple):
  """A folder with faults, and the truth of each image in it.

  Attributes:
    folder: of people.
    truth: image, PERSON/IMAGE -> who it shows.
    flipped: images under another name.
    cut: the second name of a person -> the first.
    copies: images that are copies of others.
  """

  folder: pathlib.Path
  truth: dict[str, str]
  flipped: set[str]
  cut: dict[str, str]
  copies: set[str]


def write_generated(folder: pathlib.Path, people: int) -> None:
  """Generated people, a folder each."""
  source = faces.SyntheticFaces(
    num_identities=people,
    images_per_identity=IMAGES,
    first_identity=FIRST,
    image_size=(48, 48),
  )
  for k in range(len(source)):
    place = folder / source.class_names[int(source.labels[k])]
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(source[k])).save(place / f"{k % IMAGES:02}.png")


def write_clean(
  source: pathlib.Path, folder: pathlib.Path, fewest: int
) -> None:
  """Links to the people with so many images."""
  for person in sorted(source.iterdir()):
    files = sorted(person.iterdir()) if person.is_dir() else []
    if len(files) >= fewest:
      (folder / person.name).mkdir(parents=True)
      for file in files:
        (folder / person.name / file.name).symlink_to(file.resolve())


def write_faulty(
  clean: pathlib.Path, folder: pathlib.Path, *, seed: int
) -> Faulty:
  """The same with faults, by a seed."""
  rng = np.random.default_rng(seed)
  images = sorted(clean.glob("*/*"))
  name = {path: path.parent.name for path in images}
  people = sorted(set(name.values()))
  chosen = rng.permutation(len(people))[: round(CUT * len(people))]
  cut = {f"{people[k]}_again": people[k] for k in chosen}
  for again, person in cut.items():
    mine = [path for path in images if path.parent.name == person]
    for k in rng.permutation(len(mine))[: len(mine) // 2]:
      name[mine[k]] = again
  everybody = sorted({*people, *cut})

  def stranger(path: pathlib.Path) -> str:
    other = path.parent.name
    while cut.get(other, other) == path.parent.name:
      other = everybody[rng.integers(len(everybody))]
    return other

  order = rng.permutation(len(images))
  wrong = [images[k] for k in order[: round(FLIPPED * len(images))]]
  name |= {path: stranger(path) for path in wrong}
  found = Faulty(folder, {}, set(), cut, set())
  for path in images:
    target = f"{name[path]}/{path.parent.name}-{path.name}"
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / target).symlink_to(path.resolve())
    found.truth[target] = path.parent.name
    if name[path] not in (path.parent.name, f"{path.parent.name}_again"):
      found.flipped.add(target)
  for path in (images[k] for k in order[::-1][: round(COPIED * len(images))]):
    target = f"{stranger(path)}/{path.parent.name}-{path.stem}-copy.jpg"
    with Image.open(path) as picture:
      again = duplicates.stored_anew(np.asarray(picture.convert("RGB")))
    Image.fromarray(again).save(folder / target, quality=80)
    found.truth[target] = path.parent.name
    found.copies.add(target)
  return found


def audited(run: str, faulty: Faulty, out: pathlib.Path) -> judge.Judgement:
  """Audits, and gives what was found beside what was written."""
  kept = []
  plain = judge.judged

  def keeping(*args, **options):
    kept.append(plain(*args, **options))
    return kept[-1]

  judge.judged = keeping
  try:
    code = audit.main([run, str(faulty.folder), "--out", str(out)])
  finally:
    judge.judged = plain
  if code:
    raise SystemExit(code)
  return kept[-1]


def scored(
  faulty: Faulty, out: pathlib.Path, found: judge.Judgement
) -> dict[str, dict[str, float]]:
  """Precision and recall of each kind of fault."""
  people = sorted(path.name for path in faulty.folder.iterdir())
  files = [
    path for p in people for path in sorted((faulty.folder / p).iterdir())
  ]
  images = [f"{path.parent.name}/{path.name}" for path in files]
  plain = np.asarray([image not in faulty.copies for image in images])
  flipped = np.asarray([image in faulty.flipped for image in images])[plain]
  flips = _figures(found.suspects[plain], flipped)
  flips |= _at(found.margins.margin[plain], flipped, flipped.sum())
  listed = _reasons(out / decisions.EXCLUDE, "copy")
  moved = corrections.read(relabel=str(out / decisions.RELABEL)).relabelled
  good = sum(
    faulty.cut.get(row.person, row.person) == faulty.truth[row.what]
    for row in moved
  )
  return {
    "flips": flips,
    "splits": _splits(faulty, people, found),
    "copies": _sets(listed, faulty.copies),
    "new names": {"found": len(moved), "precision": good / max(len(moved), 1)},
  }


def _splits(
  faulty: Faulty, people: list[str], found: judge.Judgement
) -> dict[str, float]:
  def named(a, b) -> frozenset[str]:
    return frozenset((people[int(a)], people[int(b)]))

  truth = {frozenset(pair) for pair in faulty.cut.items()}
  merged = {named(a, b) for a, b in enumerate(found.groups) if a != b}
  pairs = zip(found.pairs.first, found.pairs.second, strict=True)
  hits = np.asarray([named(a, b) in truth for a, b in pairs], bool)
  return _sets(merged, truth) | _at(found.pairs.scores, hits, len(truth))


def _sets(found: set, truth: set) -> dict[str, float]:
  hits = len(found & truth)
  return {
    "found": len(found),
    "precision": hits / max(len(found), 1),
    "recall": hits / max(len(truth), 1),
  }


def _figures(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
  hits = int((found & truth).sum())
  return {
    "found": int(found.sum()),
    "precision": hits / max(int(found.sum()), 1),
    "recall": hits / max(int(truth.sum()), 1),
  }


def _at(
  scores: np.ndarray, truth: np.ndarray, faults: int, recall: float = 0.8
) -> dict[str, float]:
  """Precision at the threshold with a recall; 0 where none has it."""
  hits = np.cumsum(truth[np.argsort(-scores, kind="stable")])
  place = int(np.searchsorted(hits, recall * faults))
  reached = place < len(hits)
  return {"at recall 0.8": hits[place] / (place + 1) if reached else 0.0}


def _reasons(path: pathlib.Path, why: str) -> set[str]:
  if not path.exists():
    return set()
  rows = [line.split("\t") for line in path.read_text().splitlines()]
  return {row[0] for row in rows if row[1] == why}


def trained(
  faulty: Faulty, clean: pathlib.Path, out: pathlib.Path, args
) -> dict[str, list[float]]:
  """Accuracy of nets on the faulty, the audited and the clean set, by seed."""
  lists = [
    word
    for name in ("exclude.txt", "merge.csv", "relabel.csv")
    if (out / name).exists()
    for word in (f"--data.{name.partition('.')[0]}", str(out / name))
  ]
  sets = {
    "faulty": [str(faulty.folder)],
    "audited": [str(faulty.folder), *lists],
    "clean": [str(clean)],
  }
  found: dict[str, list[float]] = {name: [] for name in sets}
  for seed in args.train:
    for name, (path, *more) in sets.items():
      run = out / f"{name}-{seed}"
      pairs = ["--eval.pairs", args.pairs] if args.pairs else []
      place = ["--eval.path", args.pairs_path] if args.pairs_path else []
      command = [
        *(sys.executable, "-m", "facejax.train", *args.flags, *pairs, *place),
        *("--data.source", "folder", "--data.path", path, *more),
        *("--eval.hold-out", "0", "--seed", str(seed), "--workdir", str(run)),
      ]
      subprocess.run(command, check=True)
      report = json.loads((run / "report" / "metrics.json").read_text())
      (first, *_) = report["results"].values()
      found[name].append(first["metrics"]["accuracy"])
  return found


def main() -> None:
  words = sys.argv[1:]
  cut = words.index("--") if "--" in words else len(words)
  args = parser().parse_args(words[:cut])
  args.flags = words[cut + 1 :]
  clean = args.out / "clean"
  if not clean.exists():
    if args.people:
      write_clean(args.people, clean, args.fewest)
    else:
      write_generated(clean, args.generated)
  for seed in args.seeds:
    place = args.out / f"faulty-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    faulty = write_faulty(clean, place, seed=seed)
    out = args.out / f"audit-{seed}"
    found = audited(args.run, faulty, out)
    for kind, figures in scored(faulty, out, found).items():
      text = "  ".join(f"{k} {v:.3f}" for k, v in figures.items())
      print(f"seed {seed}  {kind:<10} {text}", flush=True)
    if args.train:
      for name, accuracy in trained(faulty, clean, out, args).items():
        each = " ".join(f"{100 * one:.2f}" for one in accuracy)
        print(f"seed {seed}  {name:<8} {100 * np.mean(accuracy):.2f} ({each})")


def parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("run", help="the net that judges")
  add("--people", type=pathlib.Path, help="folder of people")
  add("--fewest", type=int, default=5, help="images that a person has (5)")
  add("--generated", type=int, default=200, help="people, without --people")
  add("--out", type=pathlib.Path, required=True, help="folder to work in")
  add("--seeds", type=int, nargs="+", default=[0], help="of the faults")
  add("--train", type=int, nargs="+", default=[], help="seeds of training")
  add("--pairs", default="", help="for --eval.pairs")
  add("--pairs-path", default="", help="for --eval.path")
  return parser


if __name__ == "__main__":
  main()
