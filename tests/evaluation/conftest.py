"""A net of a test's own, for protocols that write into its folder."""

import copy
import shutil

import pytest


@pytest.fixture
def model(tiny_run, tiny_model, tmp_path):
  """The tiny run's net, in a copy of its folder."""
  mine = copy.copy(tiny_model)
  mine.run = str(shutil.copytree(tiny_run, tmp_path / "run"))
  return mine
