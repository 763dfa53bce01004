"""Whole runs of the command line; in a process where a process is tested."""

import functools
import json
import os
import random
import re
import signal
import time

import jax
import numpy as np
import pytest
from helpers import compiling, processes, small_training
from PIL import Image

import facejax
from facejax import train
from facejax.data.synthetic import faces as synthetic
from facejax.evaluation import verification
from facejax.runs import card, history
from facejax.runtime import last_words
from facejax.training import inputs, recipe

# One program for all runs that do not differ in what is compiled.
ONE = ["--mesh.devices", 1]
RUN = [*small_training.SMALL, *ONE, "--steps", 40]
# Compiles in less time still: where the net is not what is tested.
SIMPLE = [*small_training.SMALL, *ONE, "--model.name", "sphereface4"]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
  """The folder of a run that nothing disturbed, and what it wrote."""
  folder = tmp_path_factory.mktemp("finished")
  with compiling.as_users():
    code, output = small_training.call(
      [*RUN, "--eval.every", 15, "--workdir", folder]
    )
  assert code == 0, output
  return folder, output


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, finished_run):
  arguments = [*RUN, "--checkpoint.every", 3]
  whole, _ = finished_run
  broken = tmp_path / "broken"
  generator = random.Random(os.urandom(8))
  done = 0
  # By step 9 a checkpoint is whole, which need not be so at the first kills.
  for least in (1, 1, 9):
    process = small_training.start([*arguments, "--workdir", broken])
    done = max(generator.randint(done + 1, done + 11), least)
    processes.wait_for_step(broken, done, [process])
    time.sleep(generator.random() * 0.1)
    process.kill()
    small_training.finish(process)
  code, output = small_training.run([*arguments, "--workdir", broken])
  assert code == 0, output
  assert "resumed at step" in output
  steps, states = zip(
    *(
      small_training.final_state(arguments, folder)
      for folder in (whole, broken)
    ),
    strict=True,
  )
  assert steps == (40, 40)
  small_training.assert_same_bits(*states)
  assert small_training.losses(broken) == small_training.losses(whole)
  assert list(small_training.losses(whole)) == list(range(1, 41))


@pytest.mark.slow
def test_sigterm_saves_and_another_device_count_goes_on(tmp_path):
  arguments = [
    *small_training.SMALL, "--model.name", "sphereface4", "--steps", 30,
    "--workdir", tmp_path, "--checkpoint.every", 1000,
  ]  # fmt: skip
  process = small_training.start(arguments)  # on all eight devices
  processes.wait_for_step(tmp_path, 5, [process])
  process.send_signal(signal.SIGTERM)
  code, output = small_training.finish(process)
  assert code == train.EXIT_STOPPED, output
  assert "the same command again goes on" in output
  stopped_at = max(small_training.losses(tmp_path))
  assert 5 <= stopped_at < 30
  two = [*arguments, "--mesh.devices", 2]
  code, output = small_training.call(two)
  assert code == 0, output
  assert f"resumed at step {stopped_at}" in output
  assert list(small_training.losses(tmp_path)) == list(range(1, 31))
  assert (tmp_path / "report" / "metrics.json").exists()
  # A finished run verifies and reports again, and trains no further.
  code, output = small_training.call(two)
  assert code == 0, output
  assert "resumed at step 30" in output


@pytest.fixture
def double_precision():
  """For all threads: checkpoints are read by others than this one."""
  jax.config.update("jax_enable_x64", True)
  yield
  jax.config.update("jax_enable_x64", False)


@pytest.mark.slow
def test_results_do_not_depend_on_the_devices(double_precision):
  # In double precision, at the recipe's own learning rate. In float32 the
  # gradient of one kernel jumps at some step, as where an activation within
  # rounding of PReLU's kink falls on its other side; from then on runs part.
  arguments = [
    *small_training.SMALL, "--steps", 20, "--data.num-identities", 1183,
    "--model.dtype", "float64", "--batch-size", 8,
    "--data.image-size", 16, 16,
  ]  # fmt: skip
  results = {}
  for devices, model in ((1, 1), (2, 2), (8, 8), (8, 2)):
    losses, start, rows = small_training.trained(
      [*arguments, "--mesh.devices", devices, "--mesh.model", model],
    )
    assert rows.dtype == np.float64
    assert rows.shape[0] == (1184 if model == 8 or model == 2 else 1183)
    assert not rows[1183:].any()
    results[devices, model] = losses, start[:1183], rows[:1183]
  alone_losses, alone_start, alone_rows = results.pop((1, 1))
  assert len(alone_losses) == 20
  moved = np.abs(alone_rows - alone_start).max()
  assert moved > 0
  for other_losses, other_start, other_rows in results.values():
    np.testing.assert_allclose(other_losses, alone_losses, rtol=1e-9)
    np.testing.assert_allclose(other_start, alone_start, rtol=0, atol=1e-15)
    np.testing.assert_allclose(
      other_rows, alone_rows, rtol=0, atol=1e-9 * moved
    )


@pytest.mark.slow
def test_triplets_go_on_from_the_net_of_another_run(tmp_path, finished_run):
  first, _ = finished_run
  second = tmp_path / "second"
  arguments = [
    "--config", "triplet_finetune.py", *small_training.SMALL[2:], *ONE,
    "--steps", 3, "--workdir", second, "--data.identities-per-batch", 4,
  ]  # fmt: skip
  code, output = small_training.call([*arguments, "--init-from", tmp_path])
  assert code == 2 and "init_from" in output, output
  # A rate of next to nothing: the net stays as it was taken over.
  arguments += ["--init-from", first, "--optim.learning-rate", 1e-12]
  code, output = small_training.call(arguments)
  assert code == 0, output
  assert "took the net of" in output and "step 40" in output
  _, before = small_training.final_state(RUN, first)
  _, after = small_training.final_state(arguments, second)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    before.params,
    after.params,
  )
  assert after.prototypes is None
  assert all(np.isfinite(list(small_training.losses(second).values())))


def test_a_net_that_was_trained_on_other_pixels_is_told_of(tmp_path, caplog):
  (tmp_path / "checkpoints").mkdir()
  card.write(
    tmp_path,
    card.Card("iresnet10_slim", 128, (48, 48), colors="BGR", pixel_mean=0.0),
  )
  arguments = ["--config", "cosface.py", "--init-from", tmp_path]
  arguments += ["--data.source", "folder", "--data.path", tmp_path / "none"]
  code, output = small_training.call(
    [*arguments, "--workdir", tmp_path / "run"]
  )
  assert code == 2, output
  said = caplog.text + output
  assert "takes BGR images, pixels as (x - 0) / 127.5" in said


@pytest.mark.smoke
@pytest.mark.slow
def test_a_finished_run_leaves_what_people_read(finished_run):
  folder, output = finished_run
  for words in (
    *("unseen identities", "multiply-adds", "Verification", "eta"),
    *("TFLOP/s", "goodput", "wall time", "lost to restarts"),
  ):
    assert words in output
  for name in (
    *("config.json", "env.json", "metrics.jsonl", "train.log", "goodput.json"),
  ):
    assert (folder / name).stat().st_size > 0
  assert any((folder / "tensorboard").iterdir())
  report = json.loads((folder / "report" / "metrics.json").read_text())
  metrics = report["results"]["unseen identities"]["metrics"]
  assert 0.3 < metrics["accuracy"] <= 1
  page = (folder / "report" / "index.html").read_text()
  for words in (
    *("Training loss", "ROC", "Hardest impostor pairs", "num_images"),
    "waiting for input",
  ):
    assert words in page
  evaluated = [
    record["step"]
    for record in history.read(folder)
    if record["kind"] == "eval"
  ]
  assert evaluated == [15, 30, 40]
  record = history.read(folder)[0]
  assert {
    "loss", "accuracy", "target_cosine", "gradient_norm", "embedding_norm",
    "learning_rate", "images_per_s", "input_wait", "model_tflops", "goodput",
  } <= set(record)  # fmt: skip
  # Whoever loads the net verifies what the run did.
  model = facejax.load(folder, devices=1)
  assert (model.step, model.card.identities) == (40, 10)
  assert model.threshold == metrics["threshold"]
  (pairs,), _ = inputs.verification_pairs(
    recipe.parse(small_training.SMALL).to_config()
  )
  again = verification.evaluate_pairs(
    functools.partial(model.embed, flip=True), pairs, batch_size=32
  ).metrics
  for name in ("accuracy", "area_under_curve"):
    assert again[name] == pytest.approx(metrics[name], abs=0.01)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
  code, output = small_training.call(
    [
      *SIMPLE, "--steps", 60, "--workdir", tmp_path, "--optim.learning-rate",
      "1e30", "--optim.clip-norm", 0, "--checkpoint.every", 1,
    ],
  )  # fmt: skip
  assert code == last_words.EXIT_FAILED, output
  assert "the loss is not finite at step" in output
  assert "synthetic/" in output
  assert "Last good checkpoint: step" in output
  assert "Traceback" not in output


def text_folder(tmp_path):
  for name in ("ada", "bob"):
    (tmp_path / "texts" / name).mkdir(parents=True)
    (tmp_path / "texts" / name / "notes.txt").write_text("not a face")
  return tmp_path / "texts"


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ("--config nosuch.py", "no recipe 'nosuch.py'"),
    ("--optim.lerning-rate 0.1", "--optim.learning-rate"),
    ("--data.path /nonexistent", "/nonexistent"),
    ("--data.path TEXTS", "ada"),
    ("--batch-size 15 --mesh.devices 2", "use 14 or 16"),
    ("--mesh.devices 64", "mesh.devices=64"),
    ("--profile 5", "must be FIRST:LAST"),
    ("--profile 8:9 --steps 8 --mesh.devices 1", "the run ends at step 8"),
    ("--track wandb none", "none goes with no other"),
  ],
)
def test_mistakes_are_answered_at_once(tmp_path, monkeypatch, flags, message):
  flags = flags.replace("TEXTS", str(text_folder(tmp_path)))
  arguments = [*flags.split(), "--workdir", tmp_path / "run"]
  monkeypatch.chdir(tmp_path)
  code, output = small_training.call(arguments)
  assert code == 2
  assert message in output
  assert "Traceback" not in output
  assert not (tmp_path / "run").exists()


def test_a_mistake_is_the_exit_code_of_the_process(tmp_path):
  code, output = small_training.run(["--config", "nosuch.py"], cwd=tmp_path)
  assert code == 2
  assert "no recipe 'nosuch.py'" in output
  assert "Traceback" not in output


@pytest.mark.slow
def test_every_exact_head_trains_the_same(tmp_path):
  results = []
  for implementation in ("dense", "chunked", "fused"):
    folder = tmp_path / implementation
    code, output = small_training.call(
      [
        *SIMPLE, "--steps", 10, "--workdir", folder, "--optim.learning-rate",
        2e-4, "--head.implementation", implementation,
      ],
    )  # fmt: skip
    assert code == 0, output
    results.append(list(small_training.losses(folder).values()))
  for other in results[1:]:
    np.testing.assert_allclose(other, results[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.as_users_compile  # as `finished_run` is, so it is there already
def test_dry_run_compiles_and_leaves_nothing(tmp_path):
  code, output = small_training.call(
    [
      *SIMPLE, "--steps", 40, "--dry-run", "--workdir", tmp_path / "run",
      "--mesh.devices", 8, "--mesh.model", 4, "--head.block-size", 1,
    ],
  )  # fmt: skip
  assert code == 0, output
  assert "temporaries" in output
  # The trunk's gradient; queries; the prototypes' gradient, block by block.
  sent = " ".join(output.partition("sent in a step")[2].split())
  assert re.search(r"all-reduce over data, model, [\d.]+ MiB", sent), sent
  assert "all-gather over model" in sent
  assert re.search(r"all-reduce over data, [\d.]+ MiB, inside a loop", sent)
  assert not (tmp_path / "run").exists()


@pytest.mark.smoke
def test_print_config_is_json(capsys):
  assert (
    train.main([*small_training.SMALL, "--steps", "5", "--print-config"]) == 0
  )
  assert json.loads(capsys.readouterr().out)["data.num_identities"] == 10


def folder_of_faces(root):
  """Four drawn people with four pictures each; one file is cut short."""
  faces = synthetic.SyntheticFaces(
    num_identities=4, images_per_identity=4, image_size=(32, 32)
  )
  for index in range(len(faces)):
    person = root / faces.class_names[faces.labels[index]]
    person.mkdir(parents=True, exist_ok=True)
    Image.fromarray(faces[index]).save(person / f"{index}.jpg", quality=95)
  damaged = root / faces.class_names[2] / "8.jpg"
  damaged.write_bytes(damaged.read_bytes()[:400])
  return damaged


@pytest.mark.slow
@pytest.mark.parametrize(("share", "code"), [("1", 0), ("0.0001", 2)])
def test_own_folder_with_a_damaged_file(tmp_path, share, code):
  damaged = folder_of_faces(tmp_path / "faces")
  actual, output = small_training.call(
    [
      *SIMPLE, "--steps", 6, "--workdir", tmp_path / "run",
      "--data.path", tmp_path / "faces", "--data.max-bad-share", share,
    ],
  )  # fmt: skip
  assert actual == code, output
  assert damaged.name in output
  assert "Traceback" not in output
  if code:
    assert "max_bad_share" in output
  else:
    lines = history.read(tmp_path / "run")
    assert lines[-1]["bad_images"] == 6
    assert "--eval.pairs" in output
