"""One computation, whatever the number of processes."""

import json

import numpy as np
import pytest
from helpers import paths, processes

FORMS = {
  "fused": ["--steps", "20"],
  "partial_fc": [
    *("--head.implementation", "partial_fc", "--head.rate", "0.5"),
    *("--steps", "20"),
  ],
  # Single precision alone: after some steps rounding has grown too far.
  "sparse": [
    *("--head.implementation", "sparse", "--head.rate", "0.5"),
    *("--model.dtype", "float32", "--steps", "3"),
  ],
  "model of one": ["--mesh.model", "1", "--steps", "20"],
  "half the model": ["--mesh.model", "2", "--steps", "20"],
  "average": ["--optim.ema", "0.9", "--steps", "20"],
  # Its strength is a state of the loss.
  "a_softmax": [
    *("--config", f"{processes.NARROW}:sphereface", "--steps", "20"),
  ],
  "triplets": [
    *("--config", f"{processes.NARROW}:facenet", "--steps", "20"),
    *("--data.identities-per-batch", "4", "--data.images-of-identity", "2"),
    *("--data.random-negatives", "0"),
  ],
}


def curves(count, devices, forms=tuple(FORMS)):
  """What all processes say of some forms."""
  lines = [json.dumps([*processes.TINY, *FORMS[one]]) for one in forms]
  codes, outputs = processes.run(
    lines,
    count=count,
    devices=devices,
    command=(str(paths.ROOT / "tests" / "helpers" / "curves.py"),),
  )
  assert codes == [0] * count, "\n".join(outputs)
  return [
    dict(zip(forms, json.loads(one.rpartition("curves:")[2]), strict=True))
    for one in outputs
  ]


@pytest.fixture(scope="module")
def alone():
  return curves(1, 4)


@pytest.fixture(scope="module")
def together():
  return curves(2, 2)


@pytest.mark.parametrize("form", FORMS)
def test_losses_are_those_of_one_process(form, alone, together):
  expected = alone[0][form]["losses"]
  for one in together:
    np.testing.assert_allclose(
      one[form]["losses"], expected, rtol=1e-5 if form == "sparse" else 1e-9
    )
  # They differ from step to step: there is something to compare.
  assert len(np.unique(expected)) == len(expected) > 2


@pytest.mark.parametrize("form", FORMS)
def test_batches_are_those_of_one_process(form, alone, together):
  whole = np.asarray(alone[0][form]["record_ids"])
  merged = np.full_like(whole, -1)
  for one in together:
    merged[:, one[form]["places"]] = one[form]["record_ids"]
  np.testing.assert_array_equal(merged, whole)
  assert sum(len(one[form]["places"]) for one in together) == 8


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_again_is_the_same_bit_for_bit(count, alone, together):
  first = together[0] if count == 2 else alone[0]
  again = curves(count, 4 // count, forms=("partial_fc",))[0]
  assert again["partial_fc"] == first["partial_fc"]
