"""Embedding sets of images from the command line."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import compiling

from facejax import embed
from facejax.data import image_sets
from facejax.runs import embed_job, embedder
from facejax.runtime import compile_cache, host_memory
from facejax.vectors import embeddings


@pytest.fixture
def command(tiny_model, monkeypatch):
  """The command line in this process, on the net that is compiled already."""
  monkeypatch.setattr(embedder, "load", lambda *_, **__: tiny_model)
  monkeypatch.setattr(compile_cache, "use", lambda: None)
  monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)

  def run(*words):
    return embed.main([*map(str, words), "--batch-size", "4"])

  return run


def job(model, faces, out, **options):
  files = image_sets.open_set(faces)
  return embed_job.EmbedJob(model, files, out, batch_size=4, part=4, **options)


def test_a_folder_becomes_a_file(
  command, tiny_run, tiny_model, tiny_faces, tmp_path, capsys
):
  out = tmp_path / "out.npz"
  assert command(tiny_run, tiny_faces, out) == 0
  assert "12 embeddings of 16 numbers, 4 people" in capsys.readouterr().out
  found = embeddings.read(out)
  assert found.name(3) == "person1" and len(found) == 12
  assert found.paths[3] == str(tiny_faces / "person1" / "3.png")
  expected = tiny_model.embed(found.paths.tolist(), batch_size=4, flip=True)
  np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
  assert found.about["card"]["net"] == "iresnet10_slim"
  assert found.about["threshold"] == tiny_model.threshold
  assert found.about["flip"] is True
  assert [entry.name for entry in tmp_path.iterdir()] == ["out.npz"]
  assert command(tiny_run, tiny_faces, out) == 2
  assert "--overwrite" in capsys.readouterr().err
  assert command(tiny_run, tiny_faces, out, "--overwrite", "--no-flip") == 0
  plain = embeddings.read(out)
  assert plain.about["threshold"] is None
  expected = tiny_model.embed(found.paths.tolist(), batch_size=4)
  np.testing.assert_allclose(plain.vectors, expected, atol=1e-6)


def test_a_table_for_others(command, tiny_run, tiny_faces, tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  assert command(tiny_run, tiny_faces, tmp_path / "out.parquet") == 0
  table = parquet.read_table(tmp_path / "out.parquet")
  assert table.column_names == ["path", "label", "embedding"]
  assert table.column("label").to_pylist()[-1] == "person3"
  assert len(table.column("embedding")[0]) == 16


def test_unreadable_images_are_left_out_and_named(
  command, tiny_run, tiny_faces, tmp_path, capsys
):
  lines = [str(tiny_faces / "person0" / f"{k}.png") for k in (0, 1, 2)]
  (tmp_path / "half.png").write_bytes(
    (tiny_faces / "person0" / "0.png").read_bytes()[:400]
  )
  names = tmp_path / "list.txt"
  names.write_text("\n".join([*lines[:1], "half.png", *lines[1:], "none.png"]))
  out = tmp_path / "out.npz"
  assert command(tiny_run, names, out) == 2
  assert "2 of 5 images could not be read" in capsys.readouterr().err
  lenient = ("--max-bad-share", "0.4")
  assert command(tiny_run, names, out, *lenient) == 0
  output = capsys.readouterr()
  assert "2 images left out" in output.out
  assert "half.png" in output.err and "none.png" in output.err
  found = embeddings.read(out)
  assert found.paths.tolist() == lines
  assert [line.split(":")[0][-8:] for line in found.skipped] == [
    "half.png",
    "none.png",
  ]
  strict = ("--on-error", "raise", "--overwrite")
  assert command(tiny_run, names, out, *strict) == 2
  assert "half.png" in capsys.readouterr().err
  names.write_text("none.png")
  any_share = ("--max-bad-share", "1")
  assert command(tiny_run, names, tmp_path / "b.npz", *any_share) == 2
  assert "no image could be read" in capsys.readouterr().err


def test_one_of_six_is_more_than_a_hundredth(
  command, tiny_run, tiny_faces, tmp_path, capsys
):
  names = tmp_path / "list.txt"
  faces = [tiny_faces / "person0" / "0.png"] * 5
  names.write_text("\n".join(map(str, [*faces, "none.png"])))
  assert command(tiny_run, names, tmp_path / "out.npz") == 2
  assert "1 of 6 images could not be read" in capsys.readouterr().err


def test_run_and_images_exchanged(
  command, tiny_run, tiny_faces, tmp_path, capsys
):
  assert command(tiny_faces, tiny_run, tmp_path / "out.npz") == 2
  assert "RUN and IMAGES look exchanged" in capsys.readouterr().err
  assert not (tmp_path / "out.npz.parts").exists()


def test_people_and_loose_images_in_one_folder(
  command, tiny_run, tiny_faces, tmp_path
):
  both = tmp_path / "both"
  shutil.copytree(tiny_faces, both)
  shutil.copy(tiny_faces / "person1" / "3.png", both / "who.png")
  assert command(tiny_run, both, tmp_path / "out.npz") == 0
  found = embeddings.read(tmp_path / "out.npz")
  assert len(found) == 13 and found.labels[0] == -1
  assert found.names[found.labels[4]] == "person1"


class Killed(BaseException):
  """As if the process had ended."""


def test_a_stopped_job_goes_on_to_the_same_bytes(
  tiny_model, tiny_faces, tmp_path
):
  whole, broken = tmp_path / "whole.npz", tmp_path / "broken.npz"
  embed_job.run(job(tiny_model, tiny_faces, whole))
  done = []

  def stop(count):
    done.append(count)
    if len(done) == 2:
      raise Killed

  mine = job(tiny_model, tiny_faces, broken)
  with pytest.raises(Killed):
    embed_job.run(mine, stop)
  first = mine.parts_folder / "000000.npz"
  when = first.stat().st_mtime_ns
  assert not (mine.parts_folder / "000001.npz").exists()
  with pytest.raises(Killed):
    done.clear()
    embed_job.run(mine, stop)
  assert first.stat().st_mtime_ns == when
  embed_job.run(mine)
  assert broken.read_bytes() == whole.read_bytes()
  assert sorted(os.listdir(tmp_path)) == ["broken.npz", "whole.npz"]


def test_parts_of_another_job_are_not_mixed_in(
  tiny_model, tiny_faces, tmp_path
):
  def stop(count):
    raise Killed

  out = tmp_path / "out.npz"
  with pytest.raises(Killed):
    embed_job.run(job(tiny_model, tiny_faces, out), stop)
  for other, what in (
    (job(tiny_model, tiny_faces, out, flip=False), "flip"),
    (job(tiny_model, tiny_faces / "person0", out), "images, fingerprint"),
  ):
    with pytest.raises(ValueError, match=f"another job, which differs.*{what}"):
      embed_job.run(other)
  (tmp_path / "out.npz.parts" / "plan.json").write_text("{")
  with pytest.raises(ValueError, match="plan is damaged"):
    embed_job.run(job(tiny_model, tiny_faces, out))


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bytes(
  tiny_run, tiny_faces, tmp_path
):
  paths = [str(tiny_faces / f"person{k // 3}" / f"{k}.png") for k in range(12)]
  names = tmp_path / "list.txt"
  names.write_text("\n".join(paths * 25))
  environment = compiling.environment() | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "2",
  }

  def start(out):
    words = [tiny_run, names, tmp_path / out, "--batch-size", 2, "--part", 2]
    return subprocess.Popen(
      [sys.executable, "-m", "facejax.embed", *map(str, words)],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  whole = start("whole.npz")
  output, _ = whole.communicate(timeout=300)
  assert whole.returncode == 0, output
  broken = start("broken.npz")
  deadline = time.monotonic() + 240
  while len(list(tmp_path.glob("broken.npz.parts/*.npz"))) < 5:
    assert broken.poll() is None and time.monotonic() < deadline
    time.sleep(0.005)
  broken.kill()
  broken.communicate()
  assert not (tmp_path / "broken.npz").exists()
  again = start("broken.npz")
  output, _ = again.communicate(timeout=300)
  assert again.returncode == 0, output
  broken_bytes = (tmp_path / "broken.npz").read_bytes()
  assert broken_bytes == (tmp_path / "whole.npz").read_bytes()


def test_mistakes_are_answered_in_one_line(tiny_run, tmp_path, capsys):
  out = tmp_path / "out.npz"
  for words, message in (
    ((tiny_run, tmp_path / "nowhere", out), "nowhere"),
    ((tmp_path, tmp_path, out), "one folder per identity"),
    ((tiny_run, tmp_path, tmp_path / "out.npy"), ".npz or .parquet"),
  ):
    assert embed.main(list(map(str, words))) == 2
    assert message in capsys.readouterr().err
  with pytest.raises(SystemExit):
    embed.main(["--help"])
  assert "Examples" in capsys.readouterr().out
