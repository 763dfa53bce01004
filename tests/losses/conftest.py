"""Many small programs are compiled: without LLVM's costly passes."""

import pytest


@pytest.fixture(autouse=True)
def quick(quick_compile):
  """All take the quick way, but for those marked `as_users_compile`."""
