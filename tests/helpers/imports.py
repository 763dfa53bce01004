"""What a command brings into a process of its own."""

import subprocess
import sys


def assert_without(code, *names):
  """Runs code in a new process; none of the modules may have come with it."""
  look = f"bad = {set(names)!r} & set(sys.modules)"
  done = subprocess.run(
    [
      *(sys.executable, "-c"),
      f"import sys\n{code}\n{look}\nsys.exit(str(bad) if bad else 0)",
    ],
    capture_output=True,
  )
  assert done.returncode == 0, done.stderr
