"""facejax.report: the page holds what was found, and opens in a browser."""

import dataclasses
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import browser

from facejax.data.pairs import pairs as pair_sets
from facejax.evaluation import (
  pair_results,
  thumbnails,
  verification,
  while_training,
)
from facejax.metrics import counts as counts_lib
from facejax.metrics import verification as metrics
from facejax.report import __main__ as command_line
from facejax.report import build, plots, svg, training_plots
from facejax.runs import card, metrics_file, results

HOSTILE = '<script>alert("1")</script> $x_1$ & \udce9'


class Noise:
  """Images of noise of two people, one of a hostile name."""

  class_names = (HOSTILE, "B")
  num_classes = 2
  labels = np.arange(40, dtype=np.int32) % 2

  def __len__(self):
    return 40

  def __getitem__(self, index):
    generator = np.random.default_rng(index)
    return generator.integers(0, 256, (20, 24, 3), np.uint8)

  def name(self, index):
    return f"{self.class_names[index % 2]}/{index}"


def verified(name="faces", count=400, gap=0.4):
  generator = np.random.default_rng(0)
  first, second = generator.integers(0, 20, (2, count)) * 2
  same = np.tile([True, False], count // 2)
  fold = np.arange(count) // 2 % 10
  pairs = pair_sets.PairSet(name, Noise(), first, second + ~same, same, fold)
  scores = generator.normal(gap * same, 0.15).clip(-1, 1)
  folds = metrics.ten_fold_accuracy(scores, same, fold)
  values = {"accuracy": folds.mean, "threshold": float(folds.thresholds.mean())}
  found = verification.Verification(name, scores, same, fold, values, "as said")
  return found, pairs


def shown(**options):
  found, pairs = verified(**options)
  return found, pair_results.result(found, pairs, samples=20, step=1234)


def train(step, **values):
  record = {"step": step, "kind": "train", "loss": 30 / step, "accuracy": 0.5}
  record |= {"target_cosine": 0.1, "learning_rate": 0.1, "gradient_norm": 2.0}
  return record | values


def evaluation(step, accuracy=0.8):
  return {"step": step, "kind": "eval", "faces/accuracy": accuracy}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
  """A run with a history and one result, and its page."""
  run = tmp_path_factory.mktemp("runs") / "run"
  run.mkdir()
  history = [train(1), evaluation(1), train(2), evaluation(2, 0.9)]
  lines = "".join(json.dumps(record) + "\n" for record in history)
  (run / "metrics.jsonl").write_text(lines)
  config = {"name": HOSTILE.encode("utf-8", "replace").decode(), "seed": 12345}
  (run / "config.json").write_text(json.dumps(config))
  about = card.Card(net="iresnet18", embedding_dim=256, image_size=(48, 40))
  card.write(run, about)
  env = {"command": ["train", "<b>"], "packages": {"jax": "0.10"}}
  (run / "env.json").write_text(json.dumps(env))
  leave(run, [shown()], summary={"data": {"num_images": 40}})
  return run


def test_several_sets_stand_side_by_side(tmp_path):
  run = tmp_path / "run"
  found = [shown(name="lfw", gap=0.9), shown(name="agedb_30")]
  page = leave(run, found, summary={}).read_text()
  for result in results.read_all(run):
    assert result["accuracy_facenet"]
    (row,) = re.findall(f'<th scope="row"><a .*{result.name}</a>.*', page)
    wanted = ("accuracy_facenet", "equal_error_rate", "area_under_curve")
    for one in result.quantities:
      assert one.key not in wanted or one.text() in row
  alone = tmp_path / "alone"
  assert "Sets of pairs" in page
  assert "Sets of pairs" not in leave(alone, found[:1], summary={}).read_text()


def leave(run, found, *, summary):
  """What a training run leaves of its verification."""
  while_training.write(run, found, summary=summary)
  return build.write_if_possible(run)


def test_the_page_holds_what_was_found(run_folder):
  page = (run_folder / "report" / "index.html").read_text()
  (result,) = results.read_all(run_folder)
  assert len(result.quantities) > 8
  for quantity in result.quantities:
    assert quantity.text() in page and quantity.interval() in page
  titles = ["ROC", "DET", "Scores", "Training loss", "Verification accuracy"]
  assert re.findall("<h4>(.*?)</h4>", page) == [
    *titles[:3], "Reliability of likelihood ratios", titles[3],
    "Training accuracy", "Cosine to the own class",
    "Learning rate", "Gradient norm", titles[4],
  ]  # fmt: skip
  # Eight pairs of each kind, two images each.
  assert page.count('src="data:image/jpeg;base64,') == 32
  assert page.count("<img ") == len(re.findall('<img [^>]*alt="[^"]', page))
  assert page.count("<svg ") == 10
  for words in (
    "12,345",
    "iresnet18",
    "48 40",
    "num_images",
    "after 1,234 steps",
    "jax",
    "0.10",
  ):
    assert words in page
  assert len(page) < 600_000


def test_it_opens_in_a_browser(run_folder, tmp_path):
  page = run_folder / "report" / "index.html"
  light = browser.view(page, tmp_path / "light")
  dark = browser.view(page, tmp_path / "dark", dark=True)
  for seen in (light, dark):
    assert seen.console == [] and seen.requests == []
  # Names are text, and text alone.
  assert "&lt;script&gt;" in light.dom and "<script" not in light.dom
  assert "<b>" not in light.dom.split("What was run")[-1]
  corners = [int(seen.pixels[2, 2].mean()) for seen in (light, dark)]
  assert corners[0] > 230 and corners[1] < 40
  # Something is drawn all the way down, and nothing beyond the margin.
  ink = np.ptp(light.pixels.reshape(20, -1), axis=1)
  assert (ink > 100).all()
  assert np.ptp(light.pixels[:, -16:]) < 16


def test_the_browser_would_tell(tmp_path):
  page = tmp_path / "bad.html"
  page.write_text(
    "<!DOCTYPE html><link rel=icon href=data:,><img src='http://a.test/x.png'>"
    "<script>console.error('so it is')</script>"
  )
  seen = browser.view(page, tmp_path / "bad")
  assert any("so it is" in line for line in seen.console)
  assert seen.requests == ["http://a.test/x.png"]


def test_a_narrow_screen_needs_no_scrolling(run_folder, tmp_path):
  # The frame is as wide as its content if that does not fit.
  page = tmp_path / "frame.html"
  source = (run_folder / "report" / "index.html").resolve().as_uri()
  page.write_text(
    f"<!DOCTYPE html><body style='margin:0'><iframe src='{source}' style='width:"
    "390px;height:900px;border:0'></iframe>"
  )
  seen = browser.view(page, tmp_path / "narrow", size=(500, 900))
  assert seen.pixels[:880, 375:388].min() > 200


def test_metrics_are_finite_json(tmp_path):
  found, result = shown(name="a")
  summary = {
    "steps": np.int64(3),
    "loss": float("nan"),
    "sizes": (1, np.inf),
    "folder": tmp_path,
  }
  leave(tmp_path, [(found, result)], summary=summary)

  def refuse(constant):
    pytest.fail(f"{constant} is no JSON")

  for path in (tmp_path / "report").glob("*.json"):
    json.loads(path.read_text(), parse_constant=refuse)
  stored = json.loads((tmp_path / "report" / "metrics.json").read_text())
  assert stored["summary"] == {
    "steps": 3, "loss": None, "sizes": [1, None], "folder": str(tmp_path),
  }  # fmt: skip
  about = {"pairs": 400, "convention": "as said", "metrics": found.metrics}
  assert stored["results"] == {"a": about}
  chosen = metrics_file.threshold(tmp_path)
  assert chosen is not None and chosen.cosine == found.metrics["threshold"]


def test_results_are_read_as_they_were(tmp_path):
  _, result = shown(name="View 2: $")
  odd = results.Quantity("odd", "Odd", math.nan, unit="")
  result = dataclasses.replace(result, quantities=[*result.quantities, odd])
  path = results.write(tmp_path, result)
  assert path.name == "View_2_.json"
  (read,) = results.read_all(tmp_path)
  assert results.plain(dataclasses.asdict(read)) == results.plain(
    dataclasses.asdict(result)
  )
  assert odd.text() == "-" and read["accuracy_facenet"] > 0.5
  with pytest.raises(KeyError):
    read["nothing"]
  assert results.write(tmp_path, read) == path  # replaced
  assert results.file_name("metrics") != "metrics.json"


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "facejax result 9"}'])
def test_a_damaged_result_is_named(tmp_path, text):
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "broken.json").write_text(text)
  with pytest.raises(ValueError, match=r"broken\.json"):
    build.write(tmp_path)


def test_results_of_one_name_are_refused(tmp_path):
  with pytest.raises(ValueError, match="name of its own"):
    leave(tmp_path, [shown(), shown()], summary={})
  assert not list(tmp_path.iterdir())


def test_a_failed_report_leaves_the_old_one_whole(tmp_path, monkeypatch):
  page = leave(tmp_path, [], summary={"run": 1})
  before = page.read_text()
  with pytest.raises(TypeError, match="set"):
    leave(tmp_path, [], summary={"run": {2}})

  def full_disk(source, target):
    raise OSError("disk full")

  monkeypatch.setattr("os.replace", full_disk)
  with pytest.raises(OSError, match="disk full"):
    leave(tmp_path, [shown()], summary={"run": 3})
  assert page.read_text() == before
  stored = json.loads((tmp_path / "report" / "metrics.json").read_text())
  assert stored == {"summary": {"run": 1}, "results": {}}


def test_training_goes_on_without_jinja2(tmp_path, monkeypatch, caplog):
  monkeypatch.setitem(sys.modules, "jinja2", None)
  leave(tmp_path, [], summary={})
  assert (tmp_path / "report" / "metrics.json").exists()
  assert "pip install jinja2" in caplog.text
  assert command_line.main([str(tmp_path)]) == 2


def test_the_command(run_folder, tmp_path, capsys):
  page = run_folder / "report" / "index.html"
  before = page.read_text()
  assert command_line.main([str(run_folder)]) == 0
  assert capsys.readouterr().out.strip() == str(page)
  # The same run, the same page, to the byte.
  assert page.read_text() == before
  assert command_line.main([str(tmp_path)]) == 2
  error = capsys.readouterr().err
  assert "is not the folder of a run" in error and "Traceback" not in error


@pytest.mark.parametrize(
  "history",
  [
    [train(1), evaluation(1)],
    [train(1, loss=None, gradient_norm=0.0), train(2, loss=np.inf)],
    [{"step": 1, "kind": "train"}],
    [evaluation(7)],
    [{"step": 1, "kind": "note", "text": "unknown records are skipped"}],
    [train(step, loss=np.nan) for step in range(1, 300)],
  ],
)
def test_sparse_histories_are_drawn(history):
  for title, drawn in training_plots.curves(history).items():
    text = svg.inline(drawn, key="k")
    assert text.startswith("<svg ") and "nan" not in text.lower(), title


def lines(drawn):
  return [line.get_xydata() for line in drawn.axes[0].lines]


def test_curves_hold_the_records():
  # Of a resumed run the later record counts.
  drawn = training_plots.curves(
    [train(2, loss=5.0), train(1, loss=9.0), evaluation(2), train(2, loss=4.0)]
  )
  (loss,) = lines(drawn["Training loss"])
  np.testing.assert_array_equal(loss, [[1, 9], [2, 4]])
  (accuracy,) = lines(drawn["Verification accuracy"])
  np.testing.assert_array_equal(accuracy, [[2, 80]])


def test_long_curves_get_a_mean_that_skips_gaps():
  history = [train(step, loss=4.0) for step in range(1, 501)]
  history[250]["loss"] = None
  raw, mean = lines(training_plots.curves(history)["Training loss"])
  assert np.isnan(raw[250, 1])
  np.testing.assert_allclose(mean[:, 1], 4)


def test_roc_and_det_show_reached_rates_only():
  found, _ = verified()
  tally = counts_lib.count(found.scores, found.same)
  curve = results.plain(pair_results.curve_points(tally))["roc"]
  points, error, _ = lines(plots.roc(curve))
  real = tally.roc()
  reached = {
    (0.0025 if f == 0 else f, 100 * t) for f, t, _ in zip(*real, strict=True)
  }
  assert {(far, rate) for far, rate in points} <= reached
  best = {far: max(rate for f, rate in points if f == far) for far, _ in points}
  far = sorted(best)[1]
  assert best[far] == 100 * metrics.tar_at_far(found.scores, found.same, far)
  rate = metrics.equal_error_rate(found.scores, found.same)
  np.testing.assert_allclose(error, [[rate, 100 * (1 - rate)]])
  trade, _ = lines(plots.det(curve))
  assert len(trade) == len(points)
  middle = len(trade) // 2
  assert trade[middle, 1] == pytest.approx(1 - points[middle, 1] / 100)


def test_normal_scores_make_a_straight_det():
  """Two normal distributions: FNMR's deviate is linear in that of FMR."""
  rng = np.random.default_rng(0)
  same = np.arange(40_000) % 2 == 0
  tally = counts_lib.count(rng.normal(2.0 * same, np.where(same, 1, 0.5)), same)
  curve = results.plain(pair_results.curve_points(tally))["roc"]
  drawn = plots.det(curve)
  (axis,) = drawn.axes
  trade, _ = lines(drawn)
  inside = (trade > 0.005).all(axis=1) & (trade < 0.4).all(axis=1)
  seen = axis.transData.transform(trade[inside])
  slope, offset = np.polyfit(*seen.T, 1)
  assert slope < 0 and inside.sum() > 20
  off = np.abs(seen[:, 1] - slope * seen[:, 0] - offset).max()
  assert off < 0.02 * np.ptp(seen[:, 1])
  labels = [text.get_text() for text in axis.get_xticklabels()]
  assert labels == ["0.01", "0.1", "1", "5", "20", "50"]


@pytest.mark.parametrize("pairs", [1, 3])
def test_a_det_of_few_pairs_can_be_drawn(pairs):
  same = np.arange(2 * pairs) % 2 == 0
  tally = counts_lib.count(np.zeros(2 * pairs), same)
  curve = results.plain(pair_results.curve_points(tally))["roc"]
  drawn = plots.det(curve)
  svg.inline(drawn, key="few")
  low, high = drawn.axes[0].get_xlim()
  assert low < high


def test_histograms_hold_all_pairs_of_each_kind():
  found, _ = verified()
  kinds = ("others", "own")
  curve = pair_results.histogram(found.scores, found.same, kinds, 0.2)
  counts = curve["histogram"]["counts"]
  assert [sum(numbers) for numbers in counts] == [200, 200]
  drawn = plots.histogram(curve["histogram"])
  for patch, numbers in zip(drawn.axes[0].patches, counts, strict=True):
    np.testing.assert_allclose(patch.get_data().values, numbers / 2)


@pytest.mark.parametrize(
  ("options", "figures"),
  # Without overlap of the scores there are no likelihood ratios to draw.
  [({"gap": 2.0}, 3), ({"gap": -0.4}, 4), ({"count": 40}, 4)],
)
def test_unusual_sets_are_drawn(tmp_path, options, figures):
  leave(tmp_path, [shown(**options)], summary={})
  page = (tmp_path / "report" / "index.html").read_text()
  assert page.count("<h4>") == figures


def test_figures_take_the_colours_of_the_page_and_keep_their_names_apart():
  found, _ = verified()
  curve = pair_results.histogram(found.scores, found.same, ("a", "b"), 0.2)
  one, two = (
    svg.inline(plots.histogram(curve["histogram"]), key=key) for key in "ab"
  )
  assert "var(--c0)" in one and "var(--ink)" in one
  assert not re.search(r'style="[^"]*(#[0-9a-f]{6}|font-family)', one)
  names = [set(re.findall(r'\bid="([^"]*)"', text)) for text in (one, two)]
  assert names[0] and not names[0] & names[1]
  used = set(re.findall(r'(?:href="#|url\(#)([^")]*)', one))
  assert used <= names[0]


def test_hardest_pairs_come_first():
  found, pairs = verified()
  accepted = found.scores >= 0.2
  for exhibit, kind, sign in zip(
    thumbnails.hardest_pairs(
      thumbnails.face(Noise()), pairs.first, pairs.second, found.scores,
      found.same, accepted=accepted, count=5,
    ),
    (~found.same, found.same),
    (-1, 1),
    strict=True,
  ):  # fmt: skip
    scores = [pair.score for pair in exhibit.comparisons]
    expected = sign * np.sort(sign * found.scores[kind])[:5]
    np.testing.assert_array_equal(scores, expected)
    wrong = [pair.wrong for pair in exhibit.comparisons]
    assert wrong == [(score >= 0.2) == (sign < 0) for score in scores]
    count = int((kind & (accepted != found.same)).sum())
    assert f"; {count:,} of {kind.sum():,} are" in exhibit.caption


def test_the_map_is_the_main_plane():
  generator = np.random.default_rng(0)
  labels = np.repeat([4, 2, 7], [10, 10, 2])
  x = generator.normal(size=(22, 6)) * 0.1 + 3 * np.eye(6)[labels % 3]
  shown_map = thumbnails.people_map(x, labels, list("abcdefgh"))
  assert shown_map is not None and shown_map["names"] == ["c", "e"]
  kept = x[np.isin(labels, [2, 4])]
  values = np.linalg.eigvalsh(np.cov(kept.T))[::-1]
  np.testing.assert_allclose(
    shown_map["explained"], values[:2] / values.sum(), atol=1e-4
  )
  assert thumbnails.people_map(x[-2:], labels[-2:], list("abcdefgh")) is None


def test_drawing_needs_neither_pyplot_nor_a_display():
  program = """
import io, sys
from facejax.report import build, plots, svg, training_plots
svg.inline(plots.cmc({"rank": [1, 2], "rate": [0.5, 1.0]}), key="a")
print("matplotlib.pyplot" in sys.modules)
"""
  environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
  outcome = subprocess.run(
    [sys.executable, "-c", program],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  assert outcome.stdout == "False\n"
