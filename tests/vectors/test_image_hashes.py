"""Hashes of pictures: near pairs against brute force, copies near."""

import numpy as np
import pytest

from facejax.data.synthetic import faces
from facejax.evaluation.audits import duplicates
from facejax.vectors import image_hashes


def flipped(rng, one, bits):
  mask = np.zeros(256, np.uint8)
  mask[rng.permutation(256)[:bits]] = 1
  return one ^ np.packbits(mask).view(np.uint64)


@pytest.mark.parametrize("bits", [0, 6, 15])
def test_near_pairs_are_those_of_brute_force(bits):
  rng = np.random.default_rng(0)
  found = rng.integers(0, 2**63, (300, 4), dtype=np.uint64)
  for k in range(40):
    found[100 + k] = flipped(rng, found[k], k % 20)
  found[299] = found[298] = found[297]
  expected = {
    (i, j)
    for i in range(300)
    for j in range(i + 1, 300)
    if np.unpackbits((found[i] ^ found[j]).view(np.uint8)).sum() <= bits
  }
  seen = {
    (min(i, j), max(i, j))
    for one, other in image_hashes.near(found, bits)
    for i, j in zip(one.tolist(), other.tolist(), strict=True)
  }
  assert seen == expected and len(seen) > 3


def test_large_sets_have_wider_bands(monkeypatch):
  rng = np.random.default_rng(1)
  found = rng.integers(0, 2**63, (50, 4), dtype=np.uint64)
  found[1] = flipped(rng, found[0], 7)
  monkeypatch.setattr(image_hashes, "_FEW", 10)
  ((one, other),) = {
    (int(i), int(j))
    for first, second in image_hashes.near(found, 7)
    for i, j in zip(first, second, strict=True)
  }
  assert {one, other} == {0, 1}


@pytest.mark.parametrize("size", [(48, 48), (112, 96), (20, 24)])
def test_copies_are_near_and_other_photographs_far(size):
  source = faces.SyntheticFaces(
    num_identities=10, images_per_identity=4, image_size=size
  )
  images = [np.asarray(source[k]) for k in range(len(source))]
  found = np.stack([image_hashes.coefficients(image) for image in images])
  middle = np.median(found, axis=0)
  again = np.stack(
    [
      image_hashes.coefficients(duplicates.stored_anew(image))
      for image in images
    ]
  )
  one, other = (image_hashes.hashes(c, middle) for c in (found, again))
  near = image_hashes.differing(one, other)
  far = image_hashes.differing(one, np.roll(one, 1, axis=0))
  assert np.quantile(near, 0.9) < far.min()
