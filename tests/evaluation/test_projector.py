"""Files of embeddings, which one process of several writes."""

import numpy as np

from facejax.data import sources
from facejax.evaluation import projector
from facejax.runtime import distributed


class Squares:
  """Four images of two people."""

  class_names = ("Ada", "Bea")
  num_classes = 2
  labels = np.array([0, 0, 1, 1])

  def __len__(self):
    return 4

  def name(self, index):
    return f"{index}.png"

  def __getitem__(self, index):
    return np.full((6, 4, 3), 60 * index, np.uint8)


def write(folder):
  squares: sources.Source = Squares()
  return projector.write(
    folder, "faces", np.eye(4), squares, np.arange(4), step=3
  )


def test_process_0_alone_writes(tmp_path, monkeypatch):
  with monkeypatch.context() as other:
    other.setattr(distributed, "primary", lambda: False)
    target = write(tmp_path)
  assert not list(tmp_path.iterdir())
  assert write(tmp_path) == target
  (table,) = target.rglob("metadata.tsv")
  assert table.read_text().splitlines()[1:] == [
    "Ada\t0.png", "Ada\t1.png", "Bea\t2.png", "Bea\t3.png",
  ]  # fmt: skip


def test_a_second_time_replaces_the_first(tmp_path):
  write(tmp_path)
  target = write(tmp_path)
  assert len(list(target.rglob("tensors.tsv"))) == 1
