"""Keeping freed memory spares the kernel."""

import importlib.util
import os
import subprocess
import sys

import pytest
from helpers import compiling

from facejax.runtime import host_memory

# A training step with some 200 MB of temporaries.
FAULTS = """
import resource, sys
from facejax.runtime import host_memory
if sys.argv[1] == "keep":
  assert host_memory.keep_freed_memory()
import jax, jax.numpy as jnp
from facejax.models import functional
jax.config.update("jax_platforms", "cpu")
net = functional.build("iresnet10_slim", embedding_dim=32, image_size=(48, 48))
params, stats = jax.jit(net.init)(jax.random.key(0))
images = jnp.zeros((64, 48, 48, 3), jnp.uint8)
step = jax.jit(jax.grad(
  lambda p: net.apply(p, stats, images, train=True)[0].sum()
))
def faults(steps):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(steps):
    jax.block_until_ready(step(params))
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(4)
print(faults(6))
"""


def faults(mode):
  out = subprocess.run(
    [sys.executable, "-c", FAULTS, mode],
    env=compiling.environment(),
    capture_output=True,
    text=True,
    check=True,
  )
  return int(out.stdout)


@pytest.mark.skipif(
  not sys.platform.startswith("linux"), reason="glibc's malloc"
)
@pytest.mark.slow
def test_page_faults_become_few():
  assert faults("keep") < 0.5 * faults("free")


@pytest.mark.parametrize("device", ["nvidiactl", "kfd", "accel0", "vfio/12"])
def test_accelerator_machines_are_left_alone(device, monkeypatch, tmp_path):
  file = tmp_path / device
  file.parent.mkdir(exist_ok=True)
  file.touch()
  there = {"jax_plugins": "its spec"}
  monkeypatch.setattr(importlib.util, "find_spec", there.get)
  monkeypatch.setattr(host_memory, "DEVICES", tmp_path)
  monkeypatch.delenv("JAX_PLATFORMS", raising=False)
  assert host_memory.keep_freed_memory() is False


ASKED = """
import importlib.util, pathlib, sys
from facejax.runtime import host_memory
importlib.util.find_spec = {"libtpu": "its spec"}.get
host_memory.DEVICES = pathlib.Path(sys.argv[1])
print(host_memory.keep_freed_memory())
"""


@pytest.mark.skipif(
  not sys.platform.startswith("linux"), reason="glibc's malloc"
)
@pytest.mark.parametrize(
  ("device", "asked"), [("accel0", "cpu"), ("vfio/vfio", "")]
)
def test_a_plugin_to_plan_with_changes_nothing(device, asked, tmp_path):
  (tmp_path / device).parent.mkdir(exist_ok=True)
  (tmp_path / device).touch()
  out = subprocess.run(
    [sys.executable, "-c", ASKED, tmp_path],
    env={**os.environ, "JAX_PLATFORMS": asked},
    capture_output=True,
    text=True,
    check=True,
  )
  assert out.stdout.strip() == "True"


def test_a_container_may_have_less_than_its_machine(tmp_path, monkeypatch):
  physical = host_memory.total()
  limit = tmp_path / "memory.max"
  monkeypatch.setattr(host_memory, "_LIMITS", (limit, tmp_path / "none"))
  for text, expected in (
    ("max\n", physical),
    ("1048576\n", 2**20),
    (str(2**62), physical),
  ):
    limit.write_text(text)
    assert host_memory.total() == expected
