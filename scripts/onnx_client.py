"""A client as users write one: verifies pairs of LFW with an ONNX file.

  python -m facejax.export runs/cosface-lfw --format onnx
  python scripts/onnx_client.py runs/cosface-lfw/export/model.onnx \\
      --images data/lfw_112 --pairs data/lfw_protocol/pairsDevTest.txt \\
      --threshold-pairs data/lfw_protocol/pairsDevTrain.txt

It needs onnxruntime, numpy and Pillow, and nothing of facejax. Any net of
ArcFace's kind will do: one input [batch, 3, height, width], RGB, as
(x - 127.5) / 127.5, one output [batch, dim]. The threshold is chosen on the one
file of pairs and applied to the other. How much of each image is used is read
from FILE.json, which facejax.export writes; without it, all.
"""

import argparse
import json
import pathlib

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class ArcFace:
  """An ONNX file as a function of images."""

  def __init__(self, path: str, crop: float = 1.0):
    self.session = onnxruntime.InferenceSession(
      path, providers=["CPUExecutionProvider"]
    )
    (self.input,) = self.session.get_inputs()
    (self.output,) = self.session.get_outputs()
    self.height, self.width = self.input.shape[2:]
    self.crop = crop

  def read(self, path: pathlib.Path) -> np.ndarray:
    """An aligned face, as the net takes it: uint8 [height, width, 3]."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    if self.crop < 1:
      width, height = (round(side * self.crop) for side in image.size)
      left, top = (image.width - width) // 2, (image.height - height) // 2
      image = image.crop((left, top, left + width, top + height))
    if image.size != (self.width, self.height):
      image = image.resize(
        (self.width, self.height), Image.Resampling.BILINEAR, reducing_gap=2.0
      )
    return np.asarray(image)

  def features(self, images: np.ndarray) -> np.ndarray:
    """Of uint8 RGB [n, height, width, 3]."""
    blob = (images.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
    return self.session.run([self.output.name], {self.input.name: blob})[0]

  def embed(self, images: np.ndarray) -> np.ndarray:
    """The features of image and mirror image, summed, of length 1."""
    features = self.features(images) + self.features(images[:, :, ::-1])
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def read_pairs(path: str) -> list[tuple[str, str, bool]]:
  """A pairs file of LFW: file, file, whether they show the same person."""
  pairs = []
  for line in pathlib.Path(path).read_text().splitlines():
    words = line.split("\t")
    if len(words) == 3:
      name, i, j = words
      pairs.append((_file(name, i), _file(name, j), True))
    elif len(words) == 4:
      first, i, second, j = words
      pairs.append((_file(first, i), _file(second, j), False))
  return pairs


def _file(name: str, number: str) -> str:
  return f"{name}/{name}_{int(number):04d}.jpg"


def score(
  net: ArcFace, images: pathlib.Path, pairs: list[tuple[str, str, bool]]
) -> tuple[np.ndarray, np.ndarray]:
  """The cosine of each pair, and whether it shows one person."""
  names = sorted({name for *both, _ in pairs for name in both})
  rows = {name: i for i, name in enumerate(names)}
  parts = []
  for start in range(0, len(names), 64):
    batch = [net.read(images / name) for name in names[start : start + 64]]
    parts.append(net.embed(np.stack(batch)))
  embeddings = np.concatenate(parts).astype(np.float64)
  first, second = (
    embeddings[[rows[pair[side]] for pair in pairs]] for side in (0, 1)
  )
  return np.sum(first * second, axis=1), np.array([pair[2] for pair in pairs])


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
  """The middle of the intervals between scores where most pairs are right."""
  values = np.unique(scores)
  middles = (values[1:] + values[:-1]) / 2
  right = [np.mean((scores >= threshold) == same) for threshold in middles]
  best = np.flatnonzero(right == np.max(right))
  return float(middles[best[(len(best) - 1) // 2]])


def main() -> None:
  """Prints the accuracy on one file of pairs, at the threshold of another."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("model", help="ONNX file")
  add("--images", type=pathlib.Path, required=True, help="NAME/NAME_nnnn.jpg")
  add("--pairs", required=True, help="pairs file of LFW to report")
  add("--threshold-pairs", required=True, help="pairs that the threshold is of")
  args = parser.parse_args()
  about = pathlib.Path(f"{args.model}.json")
  crop = json.loads(about.read_text())["net"]["crop"] if about.exists() else 1.0
  net = ArcFace(args.model, crop)
  threshold = best_threshold(
    *score(net, args.images, read_pairs(args.threshold_pairs))
  )
  scores, same = score(net, args.images, read_pairs(args.pairs))
  accuracy = np.mean((scores >= threshold) == same)
  print(
    f"{len(same)} pairs: accuracy {accuracy:.4f} at threshold {threshold:.6f},"
    f" mean cosine {scores[same].mean():.4f} same,"
    f" {scores[~same].mean():.4f} different"
  )


if __name__ == "__main__":
  main()
