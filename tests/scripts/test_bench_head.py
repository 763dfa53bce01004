"""The benchmark of the head, end to end on a few classes."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
from helpers import compiling, paths

ROOT = paths.ROOT
METHODS = {
  *("dense", "chunked", "fused", "fused-saved", "sampled", "sparse", "alpha"),
  *("fused-bfloat16", "fused-float8", "fused-float8-sgd"),
}

needs_torch = pytest.mark.skipif(
  importlib.util.find_spec("torch") is None, reason="needs torch"
)


def run(script, *options, lines=""):
  environment = compiling.environment() | {
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
  }
  return subprocess.run(
    [sys.executable, ROOT / "scripts" / script, *map(str, options)],
    input=lines,
    capture_output=True,
    text=True,
    env=environment,
    timeout=300,
  )


def bench(folder, *options):
  """What a run of two rounds prints, and the cases that it stores."""
  done = run("bench_head.py", "--rounds", 2, "--out", folder, *options)
  assert done.returncode == 0, done.stderr
  found = json.loads((folder / "bench_head.json").read_text())
  return done.stdout, found["cases"]


def times(case, prefix):
  """Seconds of every method of a framework, by name; probes left out."""
  return {
    key.removeprefix(prefix): found["wall"]
    for key, found in case["results"].items()
    if key.startswith(prefix) and "temporaries" in found
  }


@pytest.mark.slow
def test_sweep_in_jax(tmp_path):
  options = "--methods", "dense,fused", "--batch", 8, "--dim", 16
  out, cases = bench(tmp_path, "--sweep", "512:2048", *options)
  assert [case["classes"] for case in cases] == [512, 2048]
  for case in cases:
    walls = times(case, "jax ")
    assert walls.keys() == {"dense", "fused"}
    assert all(len(wall) == 2 and min(wall) > 0 for wall in walls.values())
  few, many = (case["results"]["jax dense"]["temporaries"] for case in cases)
  # All logits and more, of four times as many classes.
  assert few > 4 * 512 * 8 and many > 3 * few
  assert "jax fused" in out and "GFLOP/s" in out
  picture = tmp_path / "bench_head.png"
  assert picture.read_bytes().startswith(b"\x89PNG")
  drawn = picture.stat().st_mtime_ns
  again = run("bench_head_plot.py", tmp_path / "bench_head.json")
  assert again.returncode == 0, again.stderr
  assert picture.stat().st_mtime_ns > drawn
  assert again.stdout == out


@pytest.mark.slow
@needs_torch
def test_all_methods_take_turns(tmp_path):
  out, (case,) = bench(tmp_path, "--cases", "600x8x16", "--torch")
  assert times(case, "jax ").keys() == METHODS
  for worker in ("torch ", "torch-tuned "):
    assert times(case, worker).keys() == {"0.1", "1.0"}
  row = next(line for line in out.splitlines() if line.startswith("torch 1.0"))
  assert row.split()[4] == "1.000"  # beside itself


@needs_torch
def test_torch_step_alone():
  lines = "step 0.1 1\nstep 1.0 1\nstep matmul 1\n"
  done = run("bench_head_torch.py", "--case", "20000x64x32", lines=lines)
  assert done.returncode == 0, done.stderr
  about, part, full, product = map(json.loads, done.stdout.splitlines())
  assert about["methods"].keys() == {"0.1", "1.0", "matmul"}
  assert product["wall"] > 0
  if pathlib.Path("/proc/self/status").exists():
    # Softmax, one-hot and their product, [64, 20000] each, at rate 1.
    assert full["growth"] > 3 * 4 * 64 * 20_000 > part["growth"]


def test_what_does_not_fit_is_skipped(tmp_path):
  # W and momentum are 4 TB; the probes of the machine run all the same.
  out, (case,) = bench(
    tmp_path, "--cases", f"{10**9}x8x512", "--methods", "dense"
  )
  assert "needs" in case["results"]["jax dense"]["skipped"]
  assert "skipped: needs" in out


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--cases", "12x3"], "'12x3': write whole numbers above 0"),
    (["--cases", "9x8x7", "--methods", "fast"], "--methods fast: choose from"),
    (["--cases", "9x8x7", "--rounds", "1"], "--rounds 1: 2 or more"),
    ([], "give --cases, --sweep or --targets"),
  ],
)
def test_mistakes_are_named(options, message):
  done = run("bench_head.py", *options)
  assert done.returncode == 2
  assert message in done.stderr
