"""The platform that tests run on, and how exact it is.

All run on eight CPU devices. Those marked `accelerator` also run where
FACEJAX_TEST_PLATFORM says, such as cuda or tpu: on as many devices as there are,
with the float64 references still computed on a CPU.
"""

import os

import jax
import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib

NAME = os.environ.get("FACEJAX_TEST_PLATFORM", "cpu")
# How much further than a CPU's results may be from the reference: exponentials
# and logarithms of accelerators are less exact, and products of float32 on a TPU
# are sums of several of bfloat16. Chosen before any was measured.
_SLACK = {"cpu": 1, "gpu": 4, "tpu": 30}


# Parameters of tests: double precision is a CPU's.
DTYPES = [np.float64, pytest.param(np.float32, marks=pytest.mark.accelerator)]


def allowed(share: float) -> float:
  """A tolerance as CPUs keep it, made wider for what runs here."""
  return share * _SLACK[jax.default_backend()]


def make_mesh(devices: int, model: int) -> jax.sharding.Mesh:
  """A mesh of that shape; smaller where there are too few accelerators."""
  if NAME != "cpu":
    devices = min(devices, jax.device_count())
    model = min(devices, model)
  return mesh_lib.make_mesh(devices=devices, model=model)


def on_cpu():
  """The context in which a reference is computed."""
  return jax.default_device(jax.devices("cpu")[0])
