"""Every test runs on eight CPU devices, with shape mistakes made loud.

FACEJAX_TEST_PLATFORM=cuda (or tpu) with `-m accelerator` runs the tests of that
mark there instead: see `helpers/platforms.py`.
"""

import contextlib
import os
import pathlib
import signal
import tempfile

# What is compiled anywhere in a session, by this process, a worker of xdist or
# a command that a test starts, is compiled once: all inherit these variables,
# and the folder goes with the session.
if "PYTEST_XDIST_WORKER" not in os.environ:
  _compiled = tempfile.TemporaryDirectory(prefix="facejax-tests-compiled-")
  os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": _compiled.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

# A shell starts what runs in the background deaf to Ctrl-C, and so would be the
# commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from helpers import compiling

_platform = os.environ.get("FACEJAX_TEST_PLATFORM", "cpu")
# The CPU stays beside an accelerator: references in float64 are computed there.
jax.config.update(
  "jax_platforms", "cpu" if _platform == "cpu" else f"{_platform},cpu"
)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# For the whole session, doctests included.
_session = contextlib.ExitStack()
_session.enter_context(compiling.quickly())


def pytest_unconfigure():
  """Compiling is as it was before the session."""
  _session.close()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path):
  """No doctests in here: one whose import fails would hide the file's tests."""
  del file_path
  found = yield
  return [one for one in found if type(one).__name__ != "DoctestModule"]


def pytest_runtest_setup(item):
  """Leaves out what a compiler is missing for."""
  if item.get_closest_marker("tpu_compiler"):
    pytest.importorskip("libtpu", reason="pip install facejax[tpu-plan]")


@pytest.fixture(autouse=True)
def way_to_compile(request):
  """Leaves the quick way of compiling where a test is marked."""
  with contextlib.ExitStack() as ways:
    for mark, way in compiling.MARKS.items():
      if request.node.get_closest_marker(mark):
        ways.enter_context(way())
    yield


@pytest.fixture
def data_folder() -> pathlib.Path:
  """The folder of real data sets; tests that use it skip without it."""
  folder = pathlib.Path(os.environ.get("FACEJAX_DATA", "../shared/data"))
  if not folder.is_dir():
    pytest.skip(f"no data at {folder} (set FACEJAX_DATA)")
  return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> pathlib.Path:
  """The folder of a run with a small net; its weights are random."""
  from helpers import tiny_run as tiny

  return tiny.write_run(tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="session")
def tiny_model(tiny_run):
  """The net of `tiny_run`, on two devices, compiled once for all tests."""
  from facejax.runs import embedder

  return embedder.load(tiny_run, devices=2)


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory) -> pathlib.Path:
  """A folder of four people, three generated images each."""
  from helpers import tiny_run as tiny

  return tiny.write_faces(tmp_path_factory.mktemp("tiny") / "faces")
