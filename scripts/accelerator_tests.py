"""The tests that are marked `accelerator`, on the accelerator.

Each compares the head or a loss with its reference; `tests/helpers/platforms.py`
says how close a platform must come. Files that import what is not installed
here are named and left out.

  python scripts/accelerator_tests.py --out results
"""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import accelerator_common as common
import pytest

MARK = "pytest.mark.accelerator"
FOLDERS = ("head", "losses")
# In the tiny form: one test of the head, two of a loss.
FEW = "test_bfloat16_operands or (test_golden and cosface_s64 and hard)"


class Reporter:
  """Keeps every test's outcome as soon as it is there."""

  def __init__(self, args, left_out: dict[str, str]):
    self._args, self._left_out = args, left_out
    self.record: common.Record | None = None
    self.counts = {"passed": 0, "failed": 0, "skipped": 0}

  def pytest_sessionstart(self, session):
    """Not earlier: the tests' configuration chooses the devices."""
    del session
    self.record = common.Record("tests", self._args)
    for name, missing in self._left_out.items():
      self.record.add(name, skipped=f"{missing} is not installed")

  def pytest_runtest_logreport(self, report):
    """A test has three reports; its own, and those that are not as usual."""
    if report.when != "call" and report.passed:
      return
    assert self.record
    self.counts[report.outcome] += 1
    about = {"outcome": report.outcome, "seconds": report.duration}
    if report.failed:
      about["error"] = report.longreprtext[-1500:]
    self.record.add(report.nodeid, **about)

  def pytest_runtest_logfinish(self, nodeid, location):
    del nodeid, location
    assert self.record
    if self.record.late("the other tests"):
      pytest.exit("no time left", returncode=0)


def platform() -> str:
  """What JAX calls the accelerator; asked of a process of its own.

  In this one the tests' configuration must come before the first device.
  """
  if given := os.environ.get("FACEJAX_TEST_PLATFORM"):
    return given
  ask = (
    "import jax; d = jax.devices()[0]; v = d.client.platform_version.lower();"
    " print(d.platform if d.platform != 'gpu' else"
    " 'rocm' if 'rocm' in v else 'cuda')"
  )
  done = subprocess.run(
    [sys.executable, "-c", ask], capture_output=True, text=True, check=True
  )
  return done.stdout.split()[-1]


def files() -> tuple[list[pathlib.Path], dict[str, str]]:
  """Test files with the mark; and those that lack a package, with its name."""
  found, left_out = [], {}
  for folder in FOLDERS:
    for path in sorted((common.ROOT / "tests" / folder).glob("test_*.py")):
      text = path.read_text()
      if MARK not in text and "platforms.DTYPES" not in text:
        continue
      missing = next(filter(None, map(lacks, imported(text))), None)
      if missing:
        left_out[str(path.relative_to(common.ROOT))] = missing
      else:
        found.append(path)
  return found, left_out


def imported(text: str) -> set[str]:
  """The packages that a module imports."""
  names = set()
  for node in ast.walk(ast.parse(text)):
    if isinstance(node, ast.Import):
      names |= {each.name.partition(".")[0] for each in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      names.add(node.module.partition(".")[0])
  return names - {"helpers"}


def lacks(name: str) -> str | None:
  return None if importlib.util.find_spec(name) else name


def main() -> int:
  args = common.arguments(__doc__, "tests")
  os.environ["FACEJAX_TEST_PLATFORM"] = platform()
  found, left_out = files()
  reporter = Reporter(args, left_out)
  options = [
    # Of the project's own some need plugins.
    *("-o", "addopts=", "-o", "filterwarnings=", "-p", "no:cacheprovider"),
    *("--import-mode=importlib", f"--rootdir={common.ROOT}", "-q"),
    *("-m", "accelerator"),
    *(("-k", FEW) if args.tiny else ()),
  ]
  code = pytest.main([*options, *map(str, found)], plugins=[reporter])
  if reporter.record is None:
    return int(code) or 1
  reporter.record.add("in all", counts=reporter.counts)
  failed = reporter.record.finish()
  return int(bool(failed or code))


if __name__ == "__main__":
  sys.exit(main())
