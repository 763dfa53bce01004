"""The check of a machine with an accelerator, in its tiny form on a CPU."""

import functools
import json
import os
import subprocess
import sys

import jax
import pytest
from helpers import paths

from facejax.training import recipe

SCRIPTS = paths.ROOT / "scripts"
STEPS = ["smoke", "head", "rivals", "trunk", "profile", "blocks", "tests"]
# Prints nothing, writes an empty result; one step fails, one hangs.
FAKE = """#!/usr/bin/env bash
case "$1" in
  *summary.py) exec {python} "$@" ;;
  *smoke.py) echo "no such device"; exit 3 ;;
  *head.py) echo '{{"results": [{{"name": "kept"}}]}}' >"$3/head.json"; sleep 60 ;;
  *trunk.py) echo '{{"resu' >"$3/trunk.json" ;;
esac
"""


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
  before = set(sys.modules)
  monkeypatch.syspath_prepend(str(SCRIPTS))
  yield
  for name in set(sys.modules) - before:
    if name.startswith(("accelerator_", "bench_")):
      del sys.modules[name]


def check(out, *options, **environment):
  done = subprocess.run(
    ["bash", SCRIPTS / "accelerator_check.sh", *options],
    capture_output=True,
    text=True,
    env=os.environ | {"OUT": str(out), "PYTHON": sys.executable} | environment,
    timeout=800,
  )
  return done.returncode, done.stdout + done.stderr


def read(out, step):
  return json.loads((out / f"{step}.json").read_text())


@pytest.mark.slow
def test_every_step_runs_on_a_cpu(tmp_path):
  code, output = check(tmp_path, "--tiny", COMMIT="abc123")
  assert code == 0, output
  summary = read(tmp_path, "summary")
  assert list(summary["steps"]) == STEPS
  for step in STEPS:
    found = read(tmp_path, step)
    assert found["state"] == "finished" and found["results"]
    machine = found["machine"]
    assert machine["platform"] == "cpu" and machine["commit"] == "abc123"
    assert machine["packages"]["jax"] == jax.__version__
  names = {
    step: {each["name"]: each for each in read(tmp_path, step)["results"]}
    for step in STEPS
  }
  assert names["smoke"]["agreement, float32"]["agrees"]
  for method in ("fused", "dense", "chunked", "partial_fc", "sparse"):
    assert names["head"][f"{method} 2000x16x32"]["of_floor"] > 0
  assert names["rivals"]["blockwise 500x16x32"]["over_fused"] > 0
  assert names["trunk"]["iresnet10_slim"]["images_a_second"] > 0
  assert len(names["profile"]["operations"]["table"]) > 3
  assert names["profile"]["files"]["kept"]
  assert names["blocks"]["the rule"]["block_size"] == 2000
  assert names["tests"]["in all"]["counts"] == {
    "passed": 3, "failed": 0, "skipped": 0,
  }  # fmt: skip
  assert "all ran" in (tmp_path / "summary.txt").read_text()


def test_a_step_that_fails_or_hangs_stops_no_other(tmp_path):
  fake = tmp_path / "python"
  fake.write_text(FAKE.format(python=sys.executable))
  fake.chmod(0o755)
  code, output = check(tmp_path, "--budget", "14", PYTHON=str(fake))
  assert code == 1
  steps = read(tmp_path, "summary")["steps"]
  assert list(steps) == STEPS
  states = {step: found["state"] for step, found in steps.items()}
  bad = {"smoke": "failed", "head": "killed by its limit"}
  assert states == dict.fromkeys(STEPS, "ok") | bad
  # What was known is kept, and what is half a file does no harm.
  assert steps["head"]["results"] == 1 and steps["trunk"]["results"] == 0
  assert "no such device" in steps["smoke"]["log"]
  assert "not as it should be: smoke, head" in output


def test_chosen_steps_share_the_budget(tmp_path):
  fake = tmp_path / "python"
  fake.write_text(FAKE.format(python=sys.executable))
  fake.chmod(0o755)
  options = "--only", "tests,rivals", "--budget", "17"
  code, _ = check(tmp_path, *options, PYTHON=str(fake))
  assert code == 0
  steps = read(tmp_path, "summary")["steps"]
  assert {k: v["limit"] for k, v in steps.items()} == {"rivals": 10, "tests": 7}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["--only", "smoke,heads"], "--only heads: choose from smoke head"),
    (["--budget", "0"], "--budget 0: seconds, a whole number above 0"),
    (["--only"], "--only needs a value"),
    (["--fast"], "--fast is unknown: see --help"),
  ],
)
def test_mistakes_are_named(tmp_path, options, message):
  code, output = check(tmp_path / "out", *options)
  assert code == 2 and message in output
  assert not (tmp_path / "out").exists()


def test_help_names_every_step(tmp_path):
  code, output = check(tmp_path, "--help")
  assert code == 0
  assert all(f"\n  {step} " in output for step in STEPS)


def test_what_trains_first_is_the_embedded_default():
  import accelerator_training as training

  ours, config = training.Setting(), recipe.load("cosface.py")
  data, sgd = config.data, config.optim
  assert (ours.net, ours.embedding_dim) == (
    config.model.name, config.model.embedding_dim
  )  # fmt: skip
  assert (ours.dtype, ours.precision, ours.image_size, ours.batch) == (
    config.model.dtype, config.head.precision, data.image_size,
    config.batch_size,
  )  # fmt: skip
  assert (ours.classes, ours.images_per_class, ours.epochs, ours.seed) == (
    data.num_identities, data.images_per_identity, config.epochs, config.seed
  )  # fmt: skip
  assert (ours.scale, ours.margin) == (config.loss.scale, config.loss.margin)
  assert (sgd.name, sgd.schedule, sgd.nesterov) == ("sgd", "cosine", False)
  assert (ours.learning_rate, ours.warmup, ours.momentum) == (
    sgd.learning_rate, sgd.warmup, sgd.momentum
  )  # fmt: skip
  assert (ours.weight_decay, ours.clip_norm) == (
    sgd.weight_decay, sgd.clip_norm
  )  # fmt: skip


def test_a_case_that_goes_wrong_is_its_result(tmp_path, capsys):
  import argparse

  import accelerator_common as common

  args = argparse.Namespace(out=tmp_path, seconds=0.0, tiny=False)
  record = common.Record("step", args)
  with record.attempt("too large"):
    raise RuntimeError("RESOURCE_EXHAUSTED: 9 GB")
  with record.attempt("wrong"):
    raise ValueError("no number")
  assert record.late("next")
  assert read(tmp_path, "step")["state"] == "running"
  assert record.finish() == 1
  results = read(tmp_path, "step")["results"]
  assert [set(each) - {"name"} for each in results] == [
    {"skipped"}, {"error"}, {"skipped"}
  ]  # fmt: skip
  capsys.readouterr()


def test_the_blockwise_rival_is_the_same_loss(monkeypatch):
  import accelerator_rivals as rivals
  import jax.numpy as jnp
  import numpy as np

  monkeypatch.setattr(rivals, "BLOCK", 7)
  monkeypatch.setattr(rivals, "product", jnp.matmul)
  rng = np.random.default_rng(0)
  w, x = (rng.normal(size=(n, 8)).astype(np.float32) for n in (30, 4))
  y = np.arange(4)

  def dense(w, x, y):
    unit = functools.partial(jnp.linalg.norm, axis=1, keepdims=True)
    z = 64 * (x / unit(x)) @ (w / unit(w)).T
    return -jax.nn.log_softmax(z)[jnp.arange(4), y].mean()

  for function in (lambda f: f, jax.grad):
    actual = function(rivals.blockwise)(w, x, y)
    wanted = function(dense)(w, x, y)
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


def test_float32_is_judged_by_what_rounding_does():
  """As far as rounding goes by then is no fault; the same a step earlier is."""
  import accelerator_smoke as smoke
  import numpy as np

  class Record:
    def add(self, name, **found):
      self.found = found

  grown = np.array([0, 1e-6, 1e-4, 1e-2])
  allowed = smoke.LAST_BITS + smoke.TIMES * grown
  record = Record()
  smoke.compare(record, "float32", np.array([1e-7, 9e-6, 9e-4, 0.09]), allowed)
  assert record.found["agrees"] and "error" not in record.found
  smoke.compare(record, "float32", np.array([4e-5, 0, 0, 0]), allowed)
  assert not record.found["agrees"]
  assert (
    "step 0 is 4e-05 from the CPU's, allowed is 1e-06" in record.found["error"]
  )
  apart = smoke.apart([1.0, np.nan], [1.0, 1.0])
  smoke.compare(record, "float32", apart, smoke.TOLERANCE["gpu"])
  assert "step 1 is inf" in record.found["error"]
