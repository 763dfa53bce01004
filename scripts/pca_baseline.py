"""How far do pixels alone get? Whitened PCA on unseen identities.

  python scripts/pca_baseline.py
  python scripts/pca_baseline.py --data lfw --path data --size 32

The eigenfaces of the training images, each scaled to unit variance, compared by
cosine: the floor that a trained net has to beat. It sees in grey what a net
sees in colour, is not told who is who, and is scored on the same kind of pairs,
by ten-fold accuracy.

synthetic: fitted on the people that the default recipe trains on, scored on
random pairs of people that it never sees.

lfw: --path holds lfw_112/NAME/NAME_nnnn.jpg and lfw_protocol/*.txt. View 1 is
fitted on peopleDevTrain and scored on pairsDevTest. View 2 is scored on
pairs.txt, each fold with a PCA of the people in the other nine.

References:
  Turk, Pentland, Eigenfaces for Recognition, 1991.
  Huang, Ramesh, Berg, Learned-Miller, Labeled Faces in the Wild, 2007 (views).
"""

import argparse
import os

import numpy as np

from facejax.data import encoded, sources
from facejax.data.pairs import lfw, pairs
from facejax.data.stores import folder
from facejax.metrics import verification
from facejax.training import inputs, recipe


def grey(source: sources.Source) -> np.ndarray:
  """Returns all images as rows of grey values, float32 [n, pixels]."""
  return np.stack(
    [source[i].mean(2, dtype=np.float32).ravel() for i in range(len(source))]
  )


class WhitenedPCA:
  """The leading eigenfaces, each scaled to unit variance."""

  def __init__(self, images: np.ndarray, components: int):
    """Fits images [n, pixels]; components is at most min(n - 1, pixels)."""
    self.mean = images.mean(0)
    centred = images - self.mean
    variance, faces = np.linalg.eigh(centred.T @ centred / len(images))
    self.basis = faces[:, -components:] / np.sqrt(variance[-components:])

  def embed(self, images: np.ndarray) -> np.ndarray:
    """Returns unit vectors [n, components] of images [n, pixels]."""
    embeddings = (images - self.mean) @ self.basis
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def score(
  pca: WhitenedPCA, images: np.ndarray, test: pairs.PairSet
) -> np.ndarray:
  """Returns the cosine of every pair, its images given as grey rows."""
  embeddings = pca.embed(images)
  return np.sum(embeddings[test.first] * embeddings[test.second], axis=1)


def report(name: str, scores: np.ndarray, test: pairs.PairSet) -> None:
  result = verification.ten_fold_accuracy(scores, test.same, test.fold)
  auc = verification.area_under_curve(scores, test.same)
  print(
    f"{name}: ten-fold accuracy {result.mean:.4f} ± {result.std:.4f}"
    f" ({result.convention}), AUC {auc:.4f}, {len(test)} pairs",
    flush=True,
  )


def run_synthetic(args: argparse.Namespace) -> None:
  """Fits and scores on exactly what the default recipe trains and tests on."""
  recipe_config = recipe.load("cosface.py")
  (test,), _ = inputs.verification_pairs(recipe_config)
  train = inputs.training_images(recipe_config)
  pca = WhitenedPCA(grey(train), args.components)
  scores = score(pca, grey(test.source), test)
  report(f"whitened PCA-{args.components}, {test.name}", scores, test)


def run_lfw(args: argparse.Namespace) -> None:
  root = os.path.join(args.path, "lfw_112")

  def protocol(name: str) -> str:
    return os.path.join(args.path, "lfw_protocol", name)

  everyone = encoded.Decoded(
    folder.ImageFolder(root), image_size=(args.size, args.size)
  )
  images = grey(everyone)
  owner = np.array(everyone.class_names)[everyone.labels]

  def fit(people: list[str]) -> WhitenedPCA:
    return WhitenedPCA(images[np.isin(owner, people)], args.components)

  def load(name: str) -> tuple[pairs.PairSet, np.ndarray]:
    size = (args.size, args.size)
    test = pairs.open_pairs(protocol(name), root=root, image_size=size)
    return test, grey(test.source)

  name = f"whitened PCA-{args.components}"
  test, rows = load("pairsDevTest.txt")
  pca = fit(lfw.read_identities(protocol("peopleDevTrain.txt")))
  report(f"{name}, LFW View 1 (pairsDevTest)", score(pca, rows, test), test)

  test, rows = load("pairs.txt")
  folds = lfw.read_lfw_people(protocol("people.txt"))
  scores = np.empty(len(test))
  for k in range(len(folds)):
    others = [name for i, fold in enumerate(folds) if i != k for name in fold]
    here = test.fold == k
    scores[here] = score(fit(others), rows, test)[here]
  report(f"{name}, LFW View 2 (pairs.txt)", scores, test)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--data", choices=("synthetic", "lfw"), default="synthetic")
  add("--path", help="with --data lfw: the folder with the images and lists")
  add("--components", type=int, default=200, help="eigenfaces (default 200)")
  add(
    "--size", type=int, default=48, help="pixels per side of LFW (default 48)"
  )
  args = parser.parse_args()
  if (args.data == "lfw") != (args.path is not None):
    parser.error("--path goes with --data lfw, and with nothing else")
  if not 1 <= args.components <= args.size**2:
    parser.error(f"--components must lie in 1..{args.size**2}, size squared")
  if args.data == "lfw":
    run_lfw(args)
  else:
    run_synthetic(args)


if __name__ == "__main__":
  main()
