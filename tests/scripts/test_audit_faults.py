"""The faults that the script makes are those that it says."""

import pathlib
import sys

import numpy as np
import pytest
from helpers import paths, tiny_run


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(paths.ROOT / "scripts"))
  import audit_faults

  yield audit_faults
  sys.modules.pop("audit_faults", None)


def test_faults_are_of_known_number_and_truth(script, tmp_path):
  source = tiny_run.write_faces(tmp_path / "source", people=20, images=10)
  (source / "few").mkdir()
  script.write_clean(source, tmp_path / "clean", 5)
  assert not (tmp_path / "clean" / "few").exists()
  faulty = script.write_faulty(tmp_path / "clean", tmp_path / "faulty", seed=1)
  files = {
    f"{path.parent.name}/{path.name}": path
    for path in pathlib.Path(faulty.folder).glob("*/*")
  }
  assert set(files) == set(faulty.truth) and len(files) == 202
  assert len(faulty.flipped) == 20 and len(faulty.copies) == 2
  ((again, person),) = faulty.cut.items()
  assert again == f"{person}_again"
  for name, truth in faulty.truth.items():
    shown = name.partition("/")[0]
    right = faulty.cut.get(shown, shown) == truth
    assert right == (name not in faulty.flipped | faulty.copies), name
    if name not in faulty.copies:
      assert files[name].resolve().parent.name == truth


def test_precision_at_recall(script):
  scores = np.array([5.0, 4, 3, 2, 1])
  truth = np.array([True, False, True, False, True])
  assert script._at(scores, truth, 2)["at recall 0.8"] == pytest.approx(2 / 3)
  assert script._at(scores, truth, 10)["at recall 0.8"] == 0
  assert script._sets({1, 2}, {2, 3, 4}) == {
    "found": 2,
    "precision": 0.5,
    "recall": pytest.approx(1 / 3),
  }
