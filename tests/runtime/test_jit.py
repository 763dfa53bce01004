"""The compiler's options for nets, where they are known and not overridden."""

import jax
import jax.numpy as jnp
import pytest

from facejax.runtime import jit


@pytest.fixture(autouse=True)
def asked_anew():
  jit.options.cache_clear()
  yield
  jit.options.cache_clear()


def convolve(x):
  kernel = jnp.ones((3, 3, 4, 4))
  layout = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=layout
  )


@pytest.mark.program_of_users
def test_convolutions_are_left_to_eigen():
  x = jnp.ones((2, 8, 8, 4))
  text = jit.jit(convolve).lower(x).compile().as_text()
  assert "__ynn_fusion" not in text
  assert (jit.jit(convolve)(x) == convolve(x)).all()


def test_flags_of_the_environment_come_first(monkeypatch):
  assert jit.options() is not None
  jit.options.cache_clear()
  monkeypatch.setenv("XLA_FLAGS", f"--{jit.YNN}=dot")
  assert jit.options() is None


def test_an_xla_without_the_option_goes_without_it(monkeypatch):
  monkeypatch.setattr(jit, "FOR_CPU", {"xla_no_such_option": "1"})
  assert jit.options() is None
  assert jit.jit(lambda x: 2 * x)(jnp.ones(())) == 2
