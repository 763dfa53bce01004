"""What a device is to hold, and what is said where it cannot."""

import jax
import pytest
from helpers import small_training

from facejax.runtime import host_memory
from facejax.training import build, needs, recipe

SIMPLE = [
  *small_training.SMALL, "--model.name", "sphereface4", "--steps", 2,
]  # fmt: skip
SAID = "RESOURCE_EXHAUSTED: Out of memory allocating 160000000000 bytes."


def built(*flags, classes=10):
  config = recipe.parse([*map(str, [*SIMPLE, *flags])]).to_config()
  return config, build.build(config, num_classes=classes, total_steps=2)


def test_sizes_are_those_of_one_device():
  config, program = built("--mesh.devices", 4, classes=1000)
  sizes = needs.of_device(config, program)
  assert sizes["prototypes"] == 4 * 250 * 16
  assert sizes["trunk"] == sizes["its gradient"]
  # Momentum, and a count of steps.
  assert sizes["their optimizer"] == 4 + sizes["prototypes"]
  assert sizes["its optimizer"] == 4 + sizes["trunk"]
  assert "their gradient" not in sizes
  dense = built("--head.implementation", "dense", "--mesh.devices", 1)
  assert needs.of_device(*dense)["their gradient"] == 4 * 10 * 16


def test_many_classes_are_advised_on_the_head_first():
  few, many = (
    needs.advice(*built("--mesh.devices", 2, classes=classes))
    for classes in (10, 10**6)
  )
  assert few[0].startswith("--batch-size 8")
  assert many[0].startswith("--head.storage bfloat16")
  assert any(one.startswith("--model.remat") for one in few)
  dense = needs.advice(*built("--head.implementation", "dense"))
  assert any("--head.implementation fused" in one for one in dense)


def test_other_errors_are_left_as_they_are():
  config, program = built("--mesh.devices", 1)
  with (
    pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
    needs.explained(config, program),
  ):
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize("at", ["compile", "step"])
def test_a_run_that_does_not_fit_is_told_what_to_change(
  tmp_path, monkeypatch, at
):
  def fails(*_):
    raise jax.errors.JaxRuntimeError(SAID)

  found = fails if at == "compile" else lambda *_: fails
  monkeypatch.setattr(build, "compiled", found)
  code, output = small_training.call(
    [*SIMPLE, "--mesh.devices", 1, "--workdir", tmp_path]
  )
  assert code == 2 and "Traceback" not in output, output
  assert "no room for the run: Out of memory allocating 160000000000" in output
  for words in ("prototypes 0.0 MiB", "--batch-size 8", "--model.remat"):
    assert words in output


def test_a_machine_is_not_asked_for_more_memory_than_it_has(
  tmp_path, monkeypatch
):
  config, program = built("--mesh.devices", 2)
  needs.check_room(config, program)
  size = 2 * sum(needs.of_device(config, program).values())
  monkeypatch.setattr(host_memory, "total", lambda: size)
  needs.check_room(config, program)
  monkeypatch.setattr(host_memory, "total", lambda: size - 1)
  code, output = small_training.call(
    [*SIMPLE, "--mesh.devices", 2, "--workdir", tmp_path / "run"]
  )
  assert code == 2 and "Traceback" not in output, output
  assert "2 CPU device(s) of a machine of" in output
  assert "--batch-size 8" in output
  assert not (tmp_path / "run").exists()
