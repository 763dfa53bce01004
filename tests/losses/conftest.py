"""Many small programs are compiled: without LLVM's costly passes."""

import pytest


@pytest.fixture(autouse=True)
def quick(request, without_llvm):
  """All take the quick way, but for those marked `as_users_compile`."""
  if request.node.get_closest_marker("as_users_compile"):
    yield
    return
  with without_llvm():
    yield
