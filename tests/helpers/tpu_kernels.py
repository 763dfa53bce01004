"""Compiles a step of the head with kernels for a TPU that is not there.

As a program of its own: `python -m helpers.tpu_kernels v5e:2x2` prints JSON.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from facejax.head import api, memory, rowwise
from facejax.runtime import mesh as mesh_lib

DIM, BATCH, ROWS = 512, 1024, 25_003


def compile_step(chip):
  """The program of one device, and its rows of the prototypes."""
  devices = topologies.get_topology_desc(
    platform="tpu", topology_name=chip
  ).devices
  mesh = mesh_lib.lay_out(devices, model=len(devices))
  tx = memory.OPTIMIZERS["momentum"]
  head = api.Head(
    memory.COSFACE,
    ROWS * len(devices),
    mesh,
    tx=tx,
    implementation="pallas",
    precision="bfloat16",
  )

  def array(like, spec):
    placed = mesh_lib.sharding(mesh, spec)
    return jax.ShapeDtypeStruct(like.shape, like.dtype, sharding=placed)

  key = jax.eval_shape(jax.random.key, 0)
  shapes = jax.eval_shape(lambda key: head.init(key, dim=DIM), key)
  flags = api.HeadState(True, rowwise.class_leaves(tx, shapes.prototypes))
  state = jax.tree.map(
    lambda leaf, by_class: array(
      leaf, mesh_lib.CLASSES if by_class else mesh_lib.REPLICATED
    ),
    shapes,
    flags,
  )
  x = jax.ShapeDtypeStruct((BATCH, DIM), jnp.float32)
  y = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
  x, y = (array(like, mesh_lib.BATCH) for like in (x, y))
  step = jax.jit(head.update, donate_argnums=0)
  return step.lower(state, x, y).compile()


def main():
  compiled = compile_step(sys.argv[1])
  found = compiled.memory_analysis()
  text = compiled.as_text()
  copied = rf"= \(?f32\[{ROWS},{DIM}\]\S* (?:copy|transpose|convert)[-\w]*\("
  print(
    json.dumps(
      {
        "prototypes": 4 * ROWS * DIM,
        "batch": 4 * BATCH * DIM,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "kernels": len(re.findall('custom_call_target="tpu_custom', text)),
        "copies": re.findall(copied, text),
      }
    )
  )


if __name__ == "__main__":
  main()
