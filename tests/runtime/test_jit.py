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


def convolve(x, kernel):
  layout = ("NHWC", "HWIO", "NHWC")
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=layout
  )


def taken_by_ynn(compiler, dtype):
  x, kernel = jnp.ones((8, 12, 12, 64), dtype), jnp.ones((3, 3, 64, 64), dtype)
  assert x.dtype == dtype
  text = compiler(convolve).lower(x, kernel).compile().as_text()
  return "__ynn_fusion" in text


@pytest.mark.as_users_compile
def test_convolutions_are_left_to_eigen():
  assert taken_by_ynn(jax.jit, "float32")
  assert not taken_by_ynn(jit.jit, "float32")


@pytest.mark.as_users_compile
def test_those_of_doubles_are_not():
  with jax.enable_x64(True):
    assert taken_by_ynn(jit.jit, "float64")


def test_flags_of_the_environment_come_first(monkeypatch):
  assert jit.options() is not None
  jit.options.cache_clear()
  monkeypatch.setenv("XLA_FLAGS", f"--{jit.YNN}=dot")
  assert jit.options() is None


def test_an_xla_without_the_option_goes_without_it(monkeypatch):
  monkeypatch.setattr(jit, "FOR_CPU", {"xla_no_such_option": "1"})
  assert jit.options() is None
  assert jit.jit(lambda x: 2 * x)(jnp.ones(())) == 2
