"""Stages of a run: what they change, what they refuse, and that they resume."""

import functools
import os
import shutil
import signal

import jax
import numpy as np
import pytest
from helpers import small_training

from facejax.runs import checkpoint_read
from facejax.training import lengths, recipe, run_stages, telemetry
from facejax.training.objectives import ramp, registry

SMALL = [*small_training.SMALL, "--model.name", "sphereface4"]
# A sampled head and a margin that grows; all classes and another optimizer; then
# no classes at all.
STAGES = (
  "0 head.implementation=partial_fc head.rate=0.5 loss.margin=0..0.2",
  "0.375 head.implementation=fused optim.name=adagrad",
  "0.75 loss=multi_similarity data.identities_per_batch=4"
  " data.images_of_identity=4",
)

RUN = lengths.Length(8, per_epoch=2)


def config_of(*stages):
  command = [*SMALL, "--steps", "8", "--stages", *stages]
  return recipe.parse(command).to_config()


def train(run, *flags, devices=1, stages=STAGES):
  return small_training.call([
    *(*SMALL, "--steps", 8, "--checkpoint.every", 100, "--workdir", run),
    *("--mesh.devices", devices, *flags, "--stages", *stages),
  ])  # fmt: skip


def test_a_stage_adds_to_the_one_before():
  first, second, third = run_stages.plan(config_of(*STAGES), RUN)
  assert [(s.first, s.last) for s in (first, second, third)] == [
    (0, 3), (3, 6), (6, 8),
  ]  # fmt: skip
  assert first.config.head.implementation == "partial_fc"
  assert first.ramps == (ramp.Ramp("margin", 0.0, 0.2, first=0, last=3),)
  assert (second.config.loss.margin, second.ramps) == (0.2, ())
  assert second.config.head.rate == 0.5
  assert second.config.optim.name == "adagrad"
  assert third.config.loss == registry.MultiSimilarity()
  assert third.config.optim.name == "adagrad"


def test_a_stage_may_begin_after_passes_or_steps():
  config = config_of("2ep loss.margin=0.1", "5st loss.margin=0.2")
  assert [s.first for s in run_stages.plan(config, RUN)] == [0, 4, 5]
  wrong = config_of("3ep loss.margin=0.1", "5st loss.margin=0.2")
  with pytest.raises(ValueError, match="none are left"):
    run_stages.plan(wrong, RUN)


def test_a_run_without_stages_is_one():
  config = config_of()
  assert run_stages.plan(config, RUN) == [run_stages.RunStage(0, 8, config)]


@pytest.mark.parametrize(
  ("stages", "message"),
  [
    (["loss.margin=0.1"], "must begin with where"),
    (["1 loss.margin=0.1"], r"in \[0, 1\)"),
    (["0.5"], "changes nothing"),
    (["0.5 loss.margin"], "no setting that can change"),
    (["0.5 batch_size=8"], "no setting that can change"),
    (["0.5 optim.ema=0.9"], "no setting that can change"),
    (["0.5 loss.margin=7"], r"loss.margin=7 is out of range"),
    (["0.5 loss.margin=0..7"], "loss.margin=7.* is out of range"),
    (["0.5 loss.margin=-1..0.3"], "loss.margin=-1.* is out of range"),
    (["0.5 loss.scale=8..64"], "of its numbers these can: loss.margin"),
    (["0.5 head.rate=0.1..1"], "only numbers of the loss move"),
    (["0.5 loss.m=1"], "loss.m is no setting; there are"),
    (["0.5 loss=arc"], "none of the losses: .*arcface"),
    (["0.5 head.implementation=fast"], "none of what it may be"),
    (["0.5 loss=triplet"], "give data.identities_per_batch"),
    (["0.5 loss.margin=0", "0.5 loss.margin=0.1"], "later than the one before"),
  ],
)
def test_what_cannot_be_is_refused_with_the_stage(stages, message):
  with pytest.raises(ValueError, match=message):
    run_stages.check(config_of(*stages))


def test_a_stage_without_steps_is_refused():
  config = config_of("0.5 loss.margin=0.1", "0.55 loss.margin=0.2")
  with pytest.raises(ValueError, match="of 8 steps none are left"):
    run_stages.plan(config, RUN)


@pytest.mark.parametrize(
  ("stage", "message"),
  [
    ("0.5 loss=softmax", "a column more"),
    ("0.5 data.image_size=48,48", "has other weights for images of 48 x 48"),
  ],
)
def test_what_would_lose_what_was_trained_is_refused(tmp_path, stage, message):
  code, output = train(tmp_path / "run", stages=[stage])
  assert code == 2
  assert message in " ".join(output.split())
  assert not (tmp_path / "run").exists()


def test_a_margin_that_stands_is_the_plain_one(tmp_path):
  # The same loss and gradient at every step: the curves are equal.
  curves = []
  for name, flags, stages in (
    ("plain", ("--loss.margin", 0.15), ()),
    ("moving", (), ("0 loss.margin=0.15..0.15",)),
  ):
    code, output = train(tmp_path / name, *flags, stages=stages)
    assert code == 0, output
    curves.append(list(small_training.losses(tmp_path / name).values()))
  np.testing.assert_allclose(*curves, rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_run_resumes_bit_for_bit_across_its_stages(
  tmp_path, monkeypatch, devices
):
  go = functools.partial(train, devices=devices)
  whole, parts = tmp_path / "whole", tmp_path / "parts"
  code, output = go(whole)
  assert code == 0, output
  assert "stage 3 of 3, steps 7 to 8" in output
  advance = telemetry.Telemetry.advance
  # Within a stage, at the end of one, and within the last.
  for stop in (2, 6, 7):
    with monkeypatch.context() as patch:

      def stopping(self, step, last=stop):
        advance(self, step)
        if step == last:
          os.kill(os.getpid(), signal.SIGTERM)

      patch.setattr(telemetry.Telemetry, "advance", stopping)
      code, output = go(parts)
    assert code == 75, output
  code, output = go(parts)
  assert code == 0, output
  assert small_training.losses(parts) == small_training.losses(whole)
  found = [
    checkpoint_read.read_record(str(run / "checkpoints" / "8"))["leaves"]
    for run in (whole, parts)
  ]
  assert found[0] == found[1]
  shutil.rmtree(whole)


def test_a_line_over_steps_has_its_end_at_the_last_of_them():
  line = ramp.Ramp("margin", 0.1, 0.5, first=4, last=9)
  found = [float(jax.jit(line.at)(step)) for step in range(11)]
  expected = np.interp(range(11), [4, 8], [0.1, 0.5])
  np.testing.assert_allclose(found, expected, rtol=1e-6)
