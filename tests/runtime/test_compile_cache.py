"""Where compiled programs are kept."""

import importlib.metadata

import jax
import pytest

from facejax.runtime import compile_cache

FOLDER = "jax_compilation_cache_dir"


@pytest.fixture
def folder():
  """What JAX was told; put back at the end."""
  names = (FOLDER, "jax_persistent_cache_min_compile_time_secs")
  before = {name: jax.config.values[name] for name in names}
  yield lambda: jax.config.values[FOLDER]
  for name, value in before.items():
    jax.config.update(name, value)


def test_programs_are_kept_for_the_next_start(folder, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  jax.config.update(FOLDER, None)
  compile_cache.use()
  assert folder().startswith(str(tmp_path / "facejax" / "xla"))
  kind = folder().rpartition("/")[2]
  assert kind.startswith(f"{importlib.metadata.version('jaxlib')}-")


def test_the_folder_that_jax_was_told_stays(folder, tmp_path):
  jax.config.update(FOLDER, str(tmp_path))
  compile_cache.use()
  assert folder() == str(tmp_path)
