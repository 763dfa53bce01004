"""Nets are compiled many times over: without LLVM's costly passes."""

import pytest


@pytest.fixture(autouse=True)
def quick(quick_compile):
  """All tests of nets take the quick way."""
