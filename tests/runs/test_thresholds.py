"""What a kept threshold says of a cosine, and that it travels with the net."""

import dataclasses
import json
import math

import pytest

from facejax.runs import card, metrics_file, thresholds

near = pytest.approx
RATES = (
  thresholds.MatchRate(0.1, 0.5, 0.45, 0.55),
  thresholds.MatchRate(0.3, 0.05, 0.03, 0.08),
  thresholds.MatchRate(0.6, 0.001, 0.0, 0.002),
)
KEPT = thresholds.Threshold(
  0.35, 0.9, "mine", 0.03, 30_000, 0.02, 0.04,
  protocol="verification; so", data={"pairs": "mine.txt"}, step=7, rates=RATES,
  ratio=thresholds.RatioLine(10.0, -3.0, -3.0, 4.0, cllr=0.2),
)  # fmt: skip


def test_between_two_cosines_the_logarithm_is_a_line():
  for cosine, expected in (
    (0.1, RATES[0][1:]),
    (0.3, RATES[1][1:]),
    (0.2, [math.sqrt(a * b) for a, b in zip(*[r[1:] for r in RATES[:2]])]),  # noqa: B905
  ):
    found = KEPT.as_high(cosine)
    assert found.bound == "about" and found[1:] == near(tuple(expected))
  # An end at 0 has no logarithm.
  assert KEPT.as_high(0.45).low == 0


def test_beyond_the_table_it_is_a_bound():
  assert KEPT.as_high(0.05) == ("more than", 0.5, 0.45, 1.0)
  assert KEPT.as_high(0.6) == KEPT.as_high(0.99) == ("at most", 0.001, 0, 0.002)
  assert dataclasses.replace(KEPT, rates=()).as_high(0.4) is None


def test_a_rate_never_rises_with_the_cosine():
  found = [KEPT.as_high(k / 100) for k in range(-10, 100)]
  rates = [one.rate for one in found]
  assert rates == sorted(rates, reverse=True)
  assert all(one.low <= one.rate <= one.high for one in found)


def test_ratios_end_where_pairs_do():
  told = [
    thresholds.told(KEPT, cosine)["log10_likelihood_ratio"]
    for cosine in (-0.5, 0.3, 0.5, 0.9)
  ]
  assert told == near([-3, 0, 2, 4])
  nothing = thresholds.told(None, 0.3)
  assert list(nothing.values()) == [None, None]
  assert thresholds.words(nothing) == ""


@pytest.mark.parametrize(
  ("cosine", "words"),
  [
    (0.05, "more than 1 in 2.0 strangers scores as high; likelihood ratio"
           " 1/320, moderately strong support for two people"),
    (0.3, "about 1 in 20 strangers scores as high (95 %: 1 in 33 … 13);"
          " likelihood ratio 1.0, support for neither"),
    (0.45, "about 1 in 141 strangers scores as high (95 %: 1 in ∞ … 79);"
           " likelihood ratio 32, moderate support for one person"),
    (0.7, "at most 1 in 1,000 strangers scores as high (95 %: at most 1 in 500);"
          " likelihood ratio 10,000, strong support for one person"),
  ],
)  # fmt: skip
def test_words(cosine, words):
  kept = dataclasses.replace(KEPT)
  assert thresholds.words(thresholds.told(kept, cosine)) == words


def test_it_travels_in_the_card(tmp_path):
  about = card.Card("iresnet18", 512, (112, 112))
  card.write(tmp_path, about)
  assert card.read(tmp_path).threshold is None
  card.keep_threshold(tmp_path, KEPT)
  assert card.read(tmp_path).threshold == KEPT
  assert metrics_file.threshold(tmp_path) == KEPT
  whole = dataclasses.replace(about, threshold=KEPT)
  assert card.of_text(card.to_text(whole)) == whole
  # Embeddings are of the net, whatever threshold is kept with it.
  assert card.net_of(whole) == card.net_of(about)
  assert json.loads(json.dumps(card.net_of(about)))["net"] == "iresnet18"


def test_cards_of_before_have_the_threshold_of_metrics(tmp_path):
  about = dataclasses.asdict(card.Card("iresnet18", 512, (112, 112)))
  del about["threshold"]
  (tmp_path / "model.json").write_text(json.dumps(about))
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "metrics.json").write_text(
    '{"results": {"a": {"metrics": {"threshold": 0.1, "accuracy": 0.5}}}}'
  )
  found = metrics_file.threshold(tmp_path)
  assert found == thresholds.Threshold(0.1, 0.5, "a")
  assert list(thresholds.told(found, 0.3).values()) == [None, None]


@pytest.mark.parametrize(
  "damage",
  [{"cosine": None}, {"rates": [[1]]}, {"ratio": {"slope": 1}}, {"odd": 1}],
)
def test_a_damaged_threshold_is_told(tmp_path, damage):
  path = card.write(tmp_path, card.Card("iresnet18", 512, (112, 112)))
  about = json.loads(path.read_text())
  about["threshold"] = dataclasses.asdict(KEPT) | damage
  path.write_text(json.dumps(about))
  with pytest.raises(ValueError, match=r"model\.json cannot be used"):
    card.read(tmp_path)
