"""The figure of the forms of a head, of a made benchmark and made runs."""

import importlib.util
import json
import pathlib
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/plot_head_forms.py"


@pytest.fixture
def script():
  pytest.importorskip("matplotlib")
  spec = importlib.util.spec_from_file_location("plot_head_forms", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def made_run(folder, *, accuracy, loss="cosface", momentum=None, **head):
  config = {
    "loss.name": loss,
    "optim.momentum": 0.9,
    "optim.head.momentum": momentum,
    "head.storage": "float32",
    "head.optimizer_storage": "float32",
  }
  config |= {f"head.{name}": value for name, value in head.items()}
  page = {
    "summary": {"config": config},
    "results": {"pairs": {"metrics": {"accuracy": accuracy}}},
  }
  (folder / "report").mkdir(parents=True)
  (folder / "report" / "metrics.json").write_text(json.dumps(page))
  return folder


def test_table_and_figure(script, tmp_path, monkeypatch, capsys):
  walls = [[1.0, 2.0], [1.0, 2.2], [1.1, 2.2], [1.3, 2.6]]
  results = {
    f"jax {method}": {"wall": wall, "temporaries": 1e6}
    for method, wall in zip(script.METHODS.values(), walls, strict=True)
  }
  bench = tmp_path / "bench_head.json"
  bench.write_text(json.dumps({"cases": [{"dim": 512, "results": results}]}))
  both = {"storage": "float8", "optimizer_storage": "float8"}
  half = dict.fromkeys(both, "bfloat16")
  runs = [
    made_run(tmp_path / "a", accuracy=0.9),
    made_run(tmp_path / "b", accuracy=0.92),
    made_run(tmp_path / "c", accuracy=0.5, loss="arcface"),
    made_run(tmp_path / "d", accuracy=0.8, **half),
    made_run(tmp_path / "e", accuracy=0.7, **both),
    made_run(tmp_path / "f", accuracy=0.6, storage="float8", momentum=0.0),
    tmp_path / "begun",
  ]
  (tmp_path / "begun").mkdir()
  out = tmp_path / "forms.png"
  command = ["plot", str(bench), *map(str, runs), "--out", str(out)]
  monkeypatch.setattr(sys, "argv", command)
  script.main()
  rows = capsys.readouterr().out.splitlines()
  assert rows[2] == "| float32 | 4,096 | 1.00 | 1.0 | 91.00 (90.0, 92.0) |"
  assert rows[3].startswith("| bfloat16 | 2,048 | 1.05 |")
  assert rows[4] == "| float8 | 1,032 | 1.10 | 1.0 | 70.00 (70.0) |"
  assert rows[5] == "| float8, no momentum | 516 | 1.30 | 1.0 | 60.00 (60.0) |"
  assert out.read_bytes().startswith(b"\x89PNG")
  # A form without a run has no mean.
  monkeypatch.setattr(sys, "argv", command[:4])
  with pytest.raises(SystemExit):
    script.main()
  assert "one of CosFace with each form" in capsys.readouterr().err
