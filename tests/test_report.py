"""facejax.evals.report and plots: the files can be read again."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from facejax.evals import plots, report, verification
from facejax.metrics import verification as metrics

_FILES = ["metrics.json", "training_curves.png", "roc.png", "scores.png"]


def _result(name="faces", pairs=400, gap=0.4):
  rng = np.random.default_rng(0)
  same = np.tile([True, False], pairs // 2)
  scores = rng.normal(gap * same, 0.15).clip(-1, 1)
  fold = np.arange(pairs) // 2 % 10
  folds = metrics.ten_fold_accuracy(scores, same, fold)
  values = {
    "accuracy": folds.mean,
    "accuracy_std": folds.std,
    "threshold": float(folds.thresholds.mean()),
    "equal_error_rate": metrics.equal_error_rate(scores, same),
    "area_under_curve": metrics.area_under_curve(scores, same),
  }
  return verification.Verification(name, scores, same, fold, values, "as said.")


def _train(step, **values):
  record = {"step": step, "kind": "train", "loss": 30 / step, "accuracy": 0.5}
  record |= {"target_cosine": 0.1, "learning_rate": 0.1, "gradient_norm": 2.0}
  return record | values


def _evaluation(step, accuracy=0.8):
  return {"step": step, "kind": "eval", "faces/accuracy": accuracy}


def _sizes(folder):
  sizes = {}
  for path in pathlib.Path(folder).glob("*.png"):
    with PIL.Image.open(path) as image:
      image.load()
      sizes[path.name] = image.size
  return sizes


def _lines(figure, title):
  (panel,) = [axes for axes in figure.axes if axes.get_title() == title]
  return [line.get_xydata() for line in panel.lines]


def test_report_writes_every_file(tmp_path):
  folder = tmp_path / "runs" / "1"
  results = [_result(name) for name in ("a", "b", "c", "d")]
  history = [_train(1), _evaluation(1), _train(2), _evaluation(2, 0.9)]
  written = report.write_report(
    folder, results=results, history=history, summary={"steps": 2}
  )
  assert [path.name for path in written] == _FILES
  assert sorted(path.name for path in folder.iterdir()) == sorted(_FILES)
  assert _sizes(folder) == {
    "training_curves.png": (1980, 960),
    "roc.png": (960, 720),
    "scores.png": (2160, 1020),
  }


def test_metrics_are_finite_json(tmp_path):
  result = _result("a")
  summary = {
    "steps": np.int64(3),
    "loss": float("nan"),
    "speed": np.float32(1.5),
    "sizes": (1, np.inf),
    "folder": tmp_path,
    "nested": {"ok": True, "none": None},
  }
  report.write_report(tmp_path, results=[result], history=[], summary=summary)

  def refuse(constant):
    pytest.fail(f"{constant} is no JSON")

  text = (tmp_path / "metrics.json").read_text()
  stored = json.loads(text, parse_constant=refuse)
  assert stored["summary"] == {
    "steps": 3,
    "loss": None,
    "speed": 1.5,
    "sizes": [1, None],
    "folder": str(tmp_path),
    "nested": {"ok": True, "none": None},
  }
  assert stored["results"] == {
    "a": {"pairs": 400, "convention": "as said.", "metrics": result.metrics}
  }


def test_report_without_results_or_history(tmp_path):
  written = report.write_report(tmp_path, results=[], history=[], summary={})
  assert [path.name for path in written] == ["metrics.json"]
  stored = json.loads(written[0].read_text())
  assert stored == {"summary": {}, "results": {}}
  report.write_report(tmp_path, results=[], history=[_train(1)], summary={})
  assert list(_sizes(tmp_path)) == ["training_curves.png"]


def test_a_failed_report_leaves_the_old_one_whole(tmp_path, monkeypatch):
  report.write_report(tmp_path, results=[], history=[], summary={"run": 1})
  with pytest.raises(TypeError, match="set"):
    report.write_report(tmp_path, results=[], history=[], summary={"run": {2}})

  def full_disk(source, target):
    raise OSError("disk full")

  monkeypatch.setattr("os.replace", full_disk)
  with pytest.raises(OSError, match="disk full"):
    report.write_report(tmp_path, results=[], history=[], summary={"run": 3})
  (only,) = tmp_path.iterdir()
  assert json.loads(only.read_text())["summary"] == {"run": 1}


def test_results_of_one_name_are_refused(tmp_path):
  with pytest.raises(ValueError, match="name of its own"):
    report.write_report(
      tmp_path, results=[_result(), _result()], history=[], summary={}
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "history",
  [
    [_train(1), _evaluation(1)],
    [_train(1, loss=None, gradient_norm=0.0), _train(2, loss=np.inf)],
    [{"step": 1, "kind": "train"}],
    [_evaluation(7)],
    [{"step": 1, "kind": "note", "text": "unknown records are skipped"}],
    [_train(step, loss=np.nan) for step in range(1, 300)],
  ],
)
def test_sparse_histories_are_drawn(tmp_path, history):
  report.write_report(tmp_path, results=[], history=history, summary={})
  assert _sizes(tmp_path) == {"training_curves.png": (1980, 960)}


@pytest.mark.parametrize(
  "result",
  [
    _result(pairs=20, gap=1.0),
    _result(gap=-0.4),
    _result(name="$50 _and_ {more} $"),
    _result(name="a long name " * 5),
  ],
)
def test_unusual_sets_are_drawn(tmp_path, result):
  report.write_report(tmp_path, results=[result], history=[], summary={})
  assert _sizes(tmp_path) == {"roc.png": (960, 720), "scores.png": (720, 510)}


def test_curves_hold_the_records():
  figure = plots.training_curves(
    [_train(2, loss=5.0), _train(1, loss=9.0), _evaluation(2)]
  )
  (loss,) = _lines(figure, "Training loss")
  np.testing.assert_array_equal(loss, [[1, 9], [2, 5]])
  (accuracy,) = _lines(figure, "Verification accuracy")
  np.testing.assert_array_equal(accuracy, [[2, 80]])


def test_repeated_steps_of_a_resumed_run_count_once():
  figure = plots.training_curves(
    [_train(1, loss=9.0), _train(2, loss=8.0), _train(2, loss=7.0)]
  )
  (loss,) = _lines(figure, "Training loss")
  np.testing.assert_array_equal(loss, [[1, 9], [2, 7]])


def test_long_curves_get_a_mean_that_skips_gaps():
  history = [_train(step, loss=4.0) for step in range(1, 501)]
  history[250]["loss"] = None
  figure = plots.training_curves(history)
  raw, mean = _lines(figure, "Training loss")
  assert np.isnan(raw[250, 1])
  np.testing.assert_allclose(mean[:, 1], 4)


def test_roc_shows_reached_rates_only():
  result = _result()
  figure = plots.roc_curves([result])
  curve = _lines(figure, "Verification (dots: equal error rate)")[0]
  assert curve[0, 0] == 0.5 / 200
  assert curve[-1].tolist() == [1, 100]
  for far, rate in curve[::50]:
    expected = metrics.tar_at_far(result.scores, result.same, far)
    assert rate == 100 * expected


def test_histograms_hold_all_pairs_of_each_kind():
  figure = plots.score_histograms([_result()])
  heights = [patch.get_xy()[:, 1].max() for patch in figure.axes[0].patches]
  assert len(heights) == 2
  assert all(0 < height <= 100 for height in heights)
  assert "threshold" in figure.axes[0].get_legend().get_texts()[2].get_text()


def test_drawing_needs_neither_pyplot_nor_a_display():
  program = """
import io, sys
from facejax.evals import plots
plots.training_curves([]).savefig(io.BytesIO())
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
