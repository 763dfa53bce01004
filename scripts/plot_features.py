"""Draws what losses make of features that have only two numbers.

  python scripts/plot_features.py --out docs

trains small nets, minutes of CPU in all, and writes

- features_people.png: eight generated people under softmax, NSL and CosFace
  with m = 0.1 and 0.2 (NSL is m = 0); Euclidean features above, angles below;
- features_digits.png: ten digits under softmax, center loss, L-Softmax,
  A-Softmax and ArcFace: MNIST from FACEJAX_DATA/mnist, or scikit-learn's digits.

Decision boundaries and target logits are drawn by plot_losses.py. The same
command draws the same pictures.

References:
  Wang et al., CosFace, 2018, Fig. 4 (people). Wen et al., A Discriminative
  Feature Learning Approach for Deep Face Recognition, 2016, Figs. 2 and 3; Liu
  et al., Large-Margin Softmax Loss, 2016, Fig. 4; Liu et al., SphereFace, 2017,
  Fig. 3; Deng et al., ArcFace, 2019, Fig. 3 (digits and people).
"""

import argparse
import functools
import gzip
import io
import os
import pathlib
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from matplotlib import axes as axes_lib
from matplotlib import figure
from PIL import Image

from facejax.data.synthetic import faces
from facejax.head import objective as objectives
from facejax.head import reference
from facejax.losses import center, margins, multiplicative
from facejax.metrics import diagnostics
from facejax.runtime import typing
from facejax.training import optim

BATCH = 128
WIDTHS = 16, 32, 64  # of convolutions of stride 2
COLORS = matplotlib.colormaps["tab10"].colors  # pyright: ignore
INK, FAINT = "#333333", "#cccccc"
BINS = np.linspace(-np.pi, np.pi, 241)


class Case(NamedTuple):
  """A loss to train with, and the title of its column."""

  title: str
  objective: objectives.Objective
  annealed: bool = False  # the margin is approached over half of the run
  center: float = 0.0  # weight of center loss beside it


def plain(margin=margins.nsl) -> objectives.Objective:
  """Features and prototypes of any length."""
  return objectives.Objective(margin, scale=None, unit_prototypes=False)


PEOPLE = (
  Case("softmax", plain()),
  Case("NSL: CosFace, m = 0", objectives.Objective(margins.nsl, 16.0)),
  *(
    Case(
      f"CosFace, m = {m}",
      objectives.Objective(functools.partial(margins.cosface, margin=m), 16.0),
    )
    for m in (0.1, 0.2)
  ),
)
L_SOFTMAX = functools.partial(multiplicative.a_softmax, margin=2)
A_SOFTMAX = functools.partial(multiplicative.a_softmax, margin=4)
DIGITS = (
  Case("softmax", plain()),
  Case("center loss, λ = 0.2", plain(), center=0.2),
  Case("L-Softmax, m = 2", plain(L_SOFTMAX), annealed=True),
  Case(
    "A-Softmax, m = 4",
    objectives.Objective(A_SOFTMAX, scale=None),
    annealed=True,
  ),
  Case(
    "ArcFace, m = 0.3",
    objectives.Objective(functools.partial(margins.arcface, margin=0.3), 32.0),
  ),
)


def init(key: typing.PRNGKey, image: tuple[int, ...], classes: int):
  """Weights of the net, prototypes and centres."""
  keys = iter(jax.random.split(key, len(WIDTHS) + 2))
  params, channels = {}, image[2]
  for k, width in enumerate(WIDTHS):
    kernel = jax.random.normal(next(keys), (3, 3, channels, width))
    params[f"conv{k}"] = kernel * np.sqrt(2 / (9 * channels))
    params[f"slope{k}"] = jnp.full(width, 0.25)
    channels = width
  side = [-(-n // 2 ** len(WIDTHS)) for n in image[:2]]
  size = side[0] * side[1] * channels
  params["out"] = jax.random.normal(next(keys), (size, 2)) / np.sqrt(size)
  params["prototypes"] = 0.1 * jax.random.normal(next(keys), (classes, 2))
  return params


def embed(params, images: typing.Array) -> typing.Array:
  """Features [batch, 2] of images [batch, height, width, channels]."""
  x = images.astype(jnp.float32) / 127.5 - 1
  for k in range(len(WIDTHS)):
    x = jax.lax.conv_general_dilated(
      x,
      params[f"conv{k}"],
      (2, 2),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = jnp.where(x > 0, x, params[f"slope{k}"] * x)
  return x.reshape(len(x), -1) @ params["out"]


def train(case: Case, images, labels, *, steps: int, seed: int = 0):
  """Trained weights."""
  classes = int(labels.max()) + 1
  params = init(jax.random.key(seed), images.shape[1:], classes)
  schedule = optim.make_schedule(
    "cosine", learning_rate=0.1, total_steps=steps, warmup_steps=steps // 10
  )
  tx = optim.sgd(schedule, weight_decay=5e-4, clip_norm=1.0)

  def loss(params, centers, x, y, strength):
    features = embed(params, x)
    more = {"strength": jnp.full(BATCH, strength)} if case.annealed else {}
    out = reference.loss(
      params["prototypes"],
      features,
      y,
      objective=case.objective,
      parameters=objectives.Parameters(margin=more),
    )
    near = center.center_loss(features, jax.lax.stop_gradient(centers)[y])
    return (out.loss + case.center * near).mean(), features

  @jax.jit
  def step(params, state, centers, x, y, strength):
    gradient, features = jax.grad(loss, has_aux=True)(
      params, centers, x, y, strength
    )
    centers = center.update_centers(centers, features, y)
    change, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, change), state, centers

  state, centers = tx.init(params), jnp.zeros((classes, 2))
  order = np.random.default_rng(seed)
  for k in range(steps):
    rows = order.integers(0, len(images), BATCH)
    # λ falls from 100 to 0 over the first half: a margin that is there from
    # the start leaves two dimensions no way out.
    strength = 100.0 * max(0.0, 1 - 2 * k / steps) ** 4
    params, state, centers = step(
      params, state, centers, images[rows], labels[rows], strength
    )
  return params


def people() -> tuple[np.ndarray, np.ndarray]:
  """Photographs of eight generated people, 32 x 32."""
  source = faces.SyntheticFaces(
    num_identities=8, images_per_identity=400, seed=0, image_size=(32, 32)
  )
  images = np.stack([source[k] for k in range(len(source))])
  return images, np.asarray(source.labels)


def digits() -> tuple[np.ndarray, np.ndarray, str]:
  """MNIST where it lies, or else scikit-learn's digits; and which."""
  folder = pathlib.Path(os.environ.get("FACEJAX_DATA", "data"), "mnist")
  if folder.is_dir():
    pixels, labels = (
      np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)
      for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    )
    # Behind their headers of 16 and 8 bytes.
    images = pixels[16:].reshape(-1, 28, 28, 1)
    return images[:20_000], labels[8:20_008].astype(np.int32), "MNIST"
  from sklearn import datasets

  pixels, labels = datasets.load_digits(return_X_y=True)
  images = (pixels * 15.9375).astype(np.uint8).reshape(-1, 8, 8, 1)
  return images, labels.astype(np.int32), "digits of scikit-learn"


def draw(cases, images, labels, *, steps: int, what: str) -> figure.Figure:
  """A column for each loss: features as they are, and their angles below.

  Shown are images of the same classes that were not trained on, a fourth.
  """
  order = np.random.default_rng(0).permutation(len(images))
  images, labels, shown = images[order], labels[order], len(images) // 4
  out = figure.Figure((2.9 * len(cases), 6.45), layout="constrained")
  grid = out.subplots(2, len(cases))
  for column, case in zip(grid.T, cases, strict=True):
    started = time.monotonic()
    params = train(case, images[shown:], labels[shown:], steps=steps)
    features = np.asarray(jax.jit(embed)(params, images[:shown]))
    angles = diagnostics.class_angles(features, labels[:shown])
    text = f"within {angles.intra:.1f}°, between {angles.inter:.1f}°"
    print(f"{what}, {case.title}: {text}, {time.monotonic() - started:.0f} s")
    column[0].set_title(case.title, fontsize=11, color=INK)
    column[1].set_xlabel(text, color=INK, fontsize=9)
    prototypes = np.asarray(params["prototypes"])
    euclidean(column[0], features, labels[:shown], prototypes)
    ring(column[1], features, labels[:shown], prototypes)
  grid[0, 0].set_ylabel("features", color=INK)
  grid[1, 0].set_ylabel("angles, and how many", color=INK)
  return out


def save(drawn: figure.Figure, path: pathlib.Path) -> None:
  """Writes a PNG of few colours, which takes half the room."""
  buffer = io.BytesIO()
  drawn.savefig(buffer, dpi=100)
  with Image.open(buffer) as picture:
    picture.convert("RGB").quantize(96).save(path, optimize=True)
  print(path)


def euclidean(
  axes: axes_lib.Axes, features, labels, prototypes: np.ndarray
) -> None:
  """Features as points, prototypes as rays."""
  reach = 1.2 * float(np.quantile(np.abs(features), 0.99))
  for k, prototype in enumerate(prototypes):
    mine = features[labels == k]
    axes.plot(*mine.T, ".", ms=2, alpha=0.5, color=COLORS[k], mew=0)
    end = 1.5 * reach * prototype / np.linalg.norm(prototype)
    axes.plot([0, end[0]], [0, end[1]], color=COLORS[k], lw=0.7, zorder=0)
  axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
  axes.set(xticks=[], yticks=[])
  for spine in axes.spines.values():
    spine.set_color(FAINT)


def ring(axes: axes_lib.Axes, features, labels, prototypes: np.ndarray) -> None:
  """Directions as points on a circle, and outside of it their histogram."""
  angle = np.arctan2(features[:, 1], features[:, 0])
  largest = max(
    np.histogram(angle[labels == k], BINS)[0].max()
    for k in range(len(prototypes))
  )
  for k, prototype in enumerate(prototypes):
    mine = angle[labels == k]
    axes.plot(np.cos(mine), np.sin(mine), ".", ms=2, color=COLORS[k], mew=0)
    height = np.histogram(mine, BINS)[0] / largest
    for left, right, h in zip(BINS[:-1], BINS[1:], height, strict=True):
      if h:
        edge = np.array([left, right, right, left])
        radius = 1.06 + 0.5 * np.array([0, 0, h, h])
        axes.fill(radius * np.cos(edge), radius * np.sin(edge), color=COLORS[k])
    end = prototype / np.linalg.norm(prototype)
    axes.plot([0, end[0]], [0, end[1]], color=COLORS[k], lw=1)
  axes.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
  axes.set(xticks=[], yticks=[])
  for spine in axes.spines.values():
    spine.set_visible(False)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--out",
    type=pathlib.Path,
    default=pathlib.Path("docs"),
    help="folder of the pictures (default docs)",
  )
  parser.add_argument(
    "--steps", type=int, default=1500, help="of each; half for people (1500)"
  )
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  picture = draw(PEOPLE, *people(), steps=args.steps // 2, what="people")
  save(picture, args.out / "features_people.png")
  images, labels, name = digits()
  picture = draw(DIGITS, images, labels, steps=args.steps, what=name)
  save(picture, args.out / "features_digits.png")


if __name__ == "__main__":
  main()
