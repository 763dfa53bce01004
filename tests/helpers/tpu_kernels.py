"""Compiles a step of the head with kernels for a TPU that is not there.

As a program of its own: `python -m helpers.tpu_kernels v5e:2x2` prints JSON.
"""

import json
import re
import sys

from facejax.head import api, memory
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import program_text, topology

DIM, BATCH, ROWS = 512, 1024, 25_003


def refusal(head, **sizes):
  """What a step of such sizes is refused with."""
  try:
    memory.compile_step(head, **sizes)
  except ValueError as error:
    return str(error)


def main():
  mesh = mesh_lib.make_mesh(among=topology.devices(sys.argv[1]))
  head = api.Head(
    memory.COSFACE,
    ROWS * mesh.size,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    implementation="pallas",
    precision="bfloat16",
  )
  compiled = memory.compile_step(head, dim=DIM, batch=BATCH)
  found, text = compiled.memory_analysis(), compiled.as_text()
  copied = program_text.ProgramText(text).rewritten((ROWS, DIM))
  print(
    json.dumps(
      {
        "prototypes": 4 * ROWS * DIM,
        "batch": 4 * BATCH * DIM,
        "aliased": found.alias_size_in_bytes,
        "temporaries": found.temp_size_in_bytes,
        "kernels": len(re.findall('custom_call_target="tpu_custom', text)),
        "odd": refusal(head, dim=500, batch=BATCH),
        "large": refusal(head, dim=DIM, batch=2**16),
        "copies": [one.name for one in copied],
      }
    )
  )


if __name__ == "__main__":
  main()
