"""The folder of a run: which configuration may go on in it."""

import json

import pytest

from facejax.runs import folder, run_lock
from facejax.training import config
from facejax.training.objectives import registry


def test_same_configuration_may_go_on(tmp_path):
  first = config.Config(steps=5, batch_size=4)
  folder.check(tmp_path / "new", config.stored(first))
  folder.write(tmp_path / "new", config.stored(first))
  folder.check(tmp_path / "new", config.stored(first))
  moved = config.Config(
    steps=5,
    batch_size=4,
    log_every=1,
    stuck_after=0.0,
    track=("wandb",),
    mesh=config.MeshConfig(devices=2, cpu_devices=2),
    data=config.DataConfig(path="elsewhere", threads=7),
  )
  folder.check(tmp_path / "new", config.stored(moved))
  stored = json.loads((tmp_path / "new" / "config.json").read_text())
  assert stored["optim.momentum"] == 0.9
  env = json.loads((tmp_path / "new" / "env.json").read_text())
  assert env["packages"]["jax"] and env["devices"]


def test_fields_that_are_new_do_not_stop_an_older_run(tmp_path):
  new = config.stored(config.Config(steps=5))
  added = ("data.exif", "data.recursive", "memory.size", "memory.start")
  folder.write(tmp_path, {k: v for k, v in new.items() if k not in added})
  folder.check(tmp_path, new)
  with pytest.raises(ValueError, match="data.exif: 'apply' there, 'ignore'"):
    folder.check(tmp_path, {**new, "data.exif": "ignore"})


def test_another_configuration_is_refused_field_by_field(tmp_path):
  folder.write(tmp_path, config.stored(config.Config(steps=5)))
  other = config.Config(steps=6, loss=registry.CosFace(margin=0.4))
  with pytest.raises(ValueError) as caught:
    folder.check(tmp_path, config.stored(other))
  text = str(caught.value)
  assert "steps: 5 there, 6 here" in text
  assert "loss.margin: 0.35 there, 0.4 here" in text
  assert "seed" not in text


def test_foreign_or_damaged_folders_are_refused(tmp_path):
  (tmp_path / "thesis.tex").write_text("precious")
  with pytest.raises(ValueError, match="not a run of facejax"):
    folder.check(tmp_path, config.stored(config.Config(steps=1)))
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json is damaged"):
    folder.check(tmp_path, config.stored(config.Config(steps=1)))


def test_what_a_killed_writer_left_goes_with_the_next_start(tmp_path):
  (tmp_path / ".model.json.12-1.partial").write_text("{")
  (tmp_path / ".config.json.part").write_text("{")
  folder.write(tmp_path, config.stored(config.Config(steps=1)))
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"config.json", "env.json"}


def test_a_longer_run_goes_on_and_its_old_length_is_kept(tmp_path):
  first = config.stored(config.Config(steps=5))
  assert folder.check(tmp_path, first) is None
  folder.write(tmp_path, first)
  for n, longer in enumerate(
    (config.Config(steps=9), config.Config(epochs=2.5)), start=1
  ):
    before = folder.check(tmp_path, config.stored(longer))
    folder.write(tmp_path, config.stored(longer))
    kept = json.loads((tmp_path / f"config.{n}.json").read_text())
    assert kept == before and folder.read_config(tmp_path) != before
  folder.write(tmp_path, config.stored(longer))
  assert len(list(tmp_path.glob("config*.json"))) == 3


def test_a_lock_is_no_content_and_leaves_nothing(tmp_path):
  run = tmp_path / "runs" / "new"
  with pytest.raises(KeyError), run_lock.locked(run):
    assert (run / folder.LOCK).exists()
    assert folder.check(run, config.stored(config.Config(steps=1))) is None
    raise KeyError
  assert not run.exists()
  with run_lock.locked(run):
    folder.write(run, config.stored(config.Config(steps=1)))
  assert {path.name for path in run.iterdir()} == {"config.json", "env.json"}


@pytest.mark.parametrize("place", ["file", "file/run", "file/a/run"])
def test_what_cannot_be_made_a_folder_is_refused_at_once(tmp_path, place):
  (tmp_path / "file").write_text("")
  with pytest.raises(OSError, match="file is no folder.*--workdir"):
    folder.check(tmp_path / place, config.stored(config.Config(steps=1)))
