"""Bytes of the head's step on a GPU that is not there."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from helpers import paths

from facejax.runtime import program_text

FOLDER = paths.ROOT / "scripts"
HAS_COMPILER = importlib.util.find_spec("jax_plugins") is not None and (
  importlib.util.find_spec("jax_plugins.xla_cuda13") is not None
)

# A loop of 4 turns: rows taken out of an array, added to others, written back.
PROGRAM = """HloModule step

%fused_update (p.0: f32[1000,8], p.1: f32[1000,8], p.2: s32[]) -> f32[1000,8] {
  %p.0 = f32[1000,8]{1,0} parameter(0)
  %p.1 = f32[1000,8]{1,0} parameter(1)
  %p.2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %own = f32[100,8]{1,0} dynamic-slice(%p.0, %p.2, %zero), dynamic_slice_sizes={100,8}
  %other = f32[100,8]{1,0} dynamic-slice(%p.1, %p.2, %zero), dynamic_slice_sizes={100,8}
  %sum = f32[100,8]{1,0} add(%own, %other)
  ROOT %new = f32[1000,8]{1,0} dynamic-update-slice(%p.0, %sum, %p.2, %zero)
}

%body (state: (s32[], f32[1000,8], f32[1000,8])) -> (s32[], f32[1000,8], f32[1000,8]) {
  %state = (s32[], f32[1000,8]{1,0}, f32[1000,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %w = f32[1000,8]{1,0} get-tuple-element(%state), index=1
  %m = f32[1000,8]{1,0} get-tuple-element(%state), index=2
  %update = f32[1000,8]{1,0} fusion(%w, /*index=1*/%m, %i), kind=kLoop, calls=%fused_update
  ROOT %next = (s32[], f32[1000,8]{1,0}, f32[1000,8]{1,0}) tuple(%i, %update, %m)
}

ENTRY %main (w: f32[1000,8], m: f32[1000,8], i: s32[]) -> f32[1000,8] {
  %w.1 = f32[1000,8]{1,0} parameter(0)
  %m.1 = f32[1000,8]{1,0} parameter(1)
  %i.1 = s32[] parameter(2)
  %copy.1 = f32[1000,8]{1,0} copy(%w.1)
  %start = (s32[], f32[1000,8]{1,0}, f32[1000,8]{1,0}) tuple(%i.1, %copy.1, %m.1)
  %while.1 = (s32[], f32[1000,8]{1,0}, f32[1000,8]{1,0}) while(%start), condition=%go, body=%body, backend_config={"known_trip_count":{"n":"4"}}
  ROOT %result = f32[1000,8]{1,0} get-tuple-element(%while.1), index=1
}
"""


def run(*options):
  environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
  return subprocess.run(
    [sys.executable, FOLDER / "head_traffic.py", *map(str, options)],
    capture_output=True,
    text=True,
    env=environment,
    timeout=300,
  )


def test_kernels_of_a_program(monkeypatch):
  monkeypatch.syspath_prepend(str(FOLDER))
  reader = importlib.import_module("head_traffic_hlo")
  copy, update = reader.kernels(PROGRAM)
  assert copy[:4] == ("copy.1", 32_000, 32_000, 1)
  # 100 rows of each array are read, those of one written; and the number.
  assert update[:4] == ("update", 6_404, 3_200, 4)
  assert update.total == 4 * 9_604
  assert (
    program_text.size_of("(f32[2,3]{1,0}, pred[4], bf16[], f8e4m3fn[8])") == 38
  )


@pytest.mark.skipif(HAS_COMPILER, reason="the compiler is there")
def test_says_what_to_install():
  done = run()
  assert done.returncode == 2
  assert "facejax[gpu-plan]" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.skipif(not HAS_COMPILER, reason="needs jax-cuda13-plugin")
@pytest.mark.parametrize(
  ("options", "most"),
  [
    ({}, 38.5e9),
    ({"storage": "bfloat16"}, 32.5e9),
    ({"implementation": "partial_fc"}, 6.5e9),
  ],
)
def test_bytes_of_a_million_classes(tmp_path, options, most):
  file = tmp_path / "traffic.json"
  words = [word for k, v in options.items() for word in (f"--{k}", v)]
  done = run("--json", file, *words)
  assert done.returncode == 0, done.stderr
  found = json.loads(file.read_text())
  assert found["bytes"] < most
  assert found["temporaries"] < 350 * 2**20
  # Nothing of the prototypes' size is copied.
  assert all(k["read"] < 2**30 for k in found["kernels"])
