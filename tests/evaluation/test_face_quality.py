"""Qualities by a net, and the errors that they foretell."""

import argparse
import json

import jax
import numpy as np
import pytest

from facejax.data.pairs import pairs as pair_sets
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import (
  discards,
  face_quality,
  features,
  verification,
)
from facejax.metrics import counts, curves, people_intervals, quality
from facejax.runs import embedder
from facejax.runs import net as net_lib

near = pytest.approx


def write_dropout(model, rate):
  with open(f"{model.run}/config.json", "w") as file:
    json.dump({"model.dropout": rate}, file)


def pictures(model, people=3):
  return synthetic.SyntheticFaces(
    num_identities=people,
    images_per_identity=2,
    seed=1,
    image_size=model.card.image_size,
  )


def test_serfiq_is_that_of_single_images(model):
  write_dropout(model, 0.4)
  source, draws = pictures(model), 5
  found = face_quality.serfiq(
    model, source, [0, 1, 2, 4, 5], batch_size=2, draws=draws
  )
  backbone = net_lib.build(model.card, dropout=0.4)
  trained = net_lib.read(model.run)
  keys = jax.random.split(jax.random.key(0), draws)
  for index, ours in zip([0, 1, 2, 4, 5], found, strict=True):
    each = [
      np.asarray(
        backbone.apply(
          trained.params,
          trained.stats,
          np.asarray(source[index])[None],
          train=False,
          dropout_key=key,
        )[0][0]
      )
      for key in keys
    ]
    expected = quality.dropout_agreement(np.stack(each)[None])[0]
    assert ours == near(expected, abs=1e-4) and 0 < ours < 1


@pytest.mark.parametrize("devices", [1, 8])
def test_serfiq_knows_no_batches_and_no_devices(model, devices):
  write_dropout(model, 0.4)
  other = embedder.load(model.run, devices=devices)
  options = {"draws": 4}
  source = pictures(model)
  whole = face_quality.serfiq(model, source, range(6), batch_size=6, **options)
  parts = face_quality.serfiq(other, source, range(6), batch_size=1, **options)
  np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_a_net_without_dropout_has_no_serfiq(model):
  with pytest.raises(ValueError, match=r"without dropout.*iresnet50"):
    face_quality.check(model, ["serfiq"])
  write_dropout(model, 0.0)
  with pytest.raises(ValueError, match=r"--model\.dropout"):
    face_quality.check(model, ["norm", "serfiq"])
  face_quality.check(model, ["norm"])


def test_norms_are_lengths(model):
  source = pictures(model)
  used = features.of_images(
    model.features_batch, source, range(6), batch_size=6
  )
  found = face_quality.of_images(
    model, ["norm"], used, source, range(6), batch_size=6
  )
  assert list(found) == ["norm"]
  np.testing.assert_allclose(
    found["norm"], np.linalg.norm(used.summed, axis=1), rtol=1e-6
  )


class Nobody:
  """Images without people; nobody looks at them."""

  labels = np.full(80, -1)

  def name(self, index):
    return str(index)


def judged(seed=0, count=4000):
  rng = np.random.default_rng(seed)
  first, second = rng.integers(0, 80, (2, count))
  same = np.tile([True, False], count // 2)
  clear = rng.uniform(0.2, 1, 80)
  worse = np.minimum(clear[first], clear[second])
  scores = np.tanh(worse * same + rng.normal(0, 0.2, count))
  pairs = pair_sets.PairSet(
    "x", Nobody(), first, second, same, np.arange(count) % 4
  )
  return verification.of_scores(pairs, scores), pairs, clear


@pytest.mark.parametrize("known", [True, False])
def test_edc_of_several_qualities_against_a_loop(known):
  found, pairs, clear = judged()
  blind = np.random.default_rng(5).permutation(clear)
  mine = np.ones(len(pairs), bool)
  who = None
  if known:
    people = (
      pairs.first // 2,
      np.where(pairs.same, pairs.first, pairs.second) // 2,
    )
    who = people_intervals.compared(*people)
  told, shown = discards.figures(
    found, mine, (pairs.first, pairs.second),
    {"norm": clear, "serfiq": blind}, who, samples=40,
  )  # fmt: skip
  bar = curves.at_far(counts.count(found.scores, pairs.same), 1e-3).threshold
  assert shown["reject"]["far"] == 1e-3
  for one, curve, values in zip(
    told, shown["reject"]["qualities"], (clear, blind), strict=True
  ):
    worth = np.minimum(values[pairs.first], values[pairs.second])
    for share, frr in zip(curve["rejected"], curve["frr"], strict=True):
      stay = worth >= np.sort(worth)[round(share * len(worth))]
      assert stay.mean() == near(1 - share)
      assert frr == near(np.mean(found.scores[stay & pairs.same] < bar))
    expected = quality.area(
      quality.error_versus_reject(
        found.scores, pairs.same, worth, threshold=bar
      )
    )
    assert one.key == f"edc_area_{curve['name']}" and one.value == near(
      expected
    )
    assert one.low < one.value < one.high
    assert ("bootstrap of people" in one.convention) == known
    assert "0 … 30 %" in one.convention and "FMR 0.001" in one.convention
  assert told[0].value < told[1].value  # what knows has less


def test_an_area_that_cannot_be_told(model):
  found, pairs, _ = judged()
  told, shown = discards.figures(
    found, np.ones(len(pairs), bool), (pairs.first, pairs.second),
    {"norm": np.ones(80)}, None, samples=5,
  )  # fmt: skip
  assert told[0].text() == "-" and "not told" in told[0].convention
  assert len(shown["reject"]["qualities"]) == 1


def flags(*words):
  parser = argparse.ArgumentParser()
  face_quality.add_flags(parser)
  return parser.parse_args(words)


def test_flags():
  assert face_quality.of_flags(flags(), takes=False) == ("norm",)
  asked = flags("--quality", "serfiq", "norm", "serfiq")
  assert face_quality.of_flags(asked, takes=True) == ("serfiq", "norm")
  with pytest.raises(ValueError, match="--quality is for pairs"):
    face_quality.of_flags(asked, takes=False)
