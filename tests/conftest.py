"""Every test runs on eight CPU devices, with shape mistakes made loud."""

import os
import pathlib

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def data_folder() -> pathlib.Path:
  """The folder of real data sets; tests that use it skip without it."""
  folder = pathlib.Path(os.environ.get("FACEJAX_DATA", "../shared/data"))
  if not folder.is_dir():
    pytest.skip(f"no data at {folder} (set FACEJAX_DATA)")
  return folder
