"""The scripts that compare recipes, on runs made up here."""

import json
import sys

import pytest
from helpers import paths

SCRIPTS = paths.ROOT / "scripts"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPTS))
  yield
  for name in ("train_all_losses", "compare_mining"):
    sys.modules.pop(name, None)


def write_run(folder, losses, accuracy, tar):
  (folder / "report").mkdir(parents=True)
  lines = [
    {
      "step": step,
      "kind": "train",
      "loss": loss,
      "images_per_s": 64.0 * (step > 0) or None,
      "active_share": 0.5,
    }
    for step, loss in enumerate(losses)
  ]
  text = "\n".join(map(json.dumps, lines)) + "\n"
  (folder / "metrics.jsonl").write_text(text)
  (folder / "config.json").write_text(json.dumps({"batch_size": 32}))
  metrics = {
    "accuracy": accuracy, "accuracy_std": 0.01, "tar_at_far_1e-2": tar,
  }  # fmt: skip
  report = {"results": {"pairs": {"metrics": metrics}}}
  (folder / "report" / "metrics.json").write_text(json.dumps(report))


def arguments(monkeypatch, *words):
  monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])


def test_all_losses_are_ranked_and_one_that_rises_is_told(
  tmp_path, monkeypatch, capsys
):
  import train_all_losses

  write_run(tmp_path / "cosface-9", [9.0, 5.0, 2.0], 0.8, 0.4)
  write_run(tmp_path / "arcface-9", [9.0, 5.0, 3.0], 0.9, 0.5)
  common = ("--steps", 9, "--out", tmp_path, "--recipes", "cosface", "arcface")
  arguments(monkeypatch, *common)
  assert train_all_losses.main() == 0
  table = (tmp_path / "table.md").read_text()
  assert table.index("arcface") < table.index("cosface")
  assert "| arcface | 9.00 | 3.00 | 90.0 ± 1.0 | 50.0 | 0.50 |" in table
  write_run(tmp_path / "nsl-9", [3.0, 5.0, 9.0], 0.6, 0.1)
  arguments(monkeypatch, *common, "nsl")
  assert train_all_losses.main() == 1
  assert "did not go down: nsl" in capsys.readouterr().err


def test_mining_rules_are_compared_over_seeds(tmp_path, monkeypatch, capsys):
  import compare_mining

  for seed, accuracy in enumerate((0.8, 0.9)):
    folder = tmp_path / f"hard-{seed}" / "facenet-300"
    write_run(folder, [0.3, 0.2], accuracy, 0.4)
  arguments(monkeypatch, "--rules", "hard", "--seeds", 2, "--out", tmp_path)
  assert compare_mining.main() == 0
  assert "| `hard` | 85.0 ± 7.1 | 40.0 ± 0.0 | 50 |" in capsys.readouterr().out
