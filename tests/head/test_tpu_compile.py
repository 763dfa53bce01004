"""The head's step as a TPU's compiler makes it; no TPU is needed."""

import dataclasses

import pytest
from helpers import heads

from facejax.head import api, memory, plan, storage
from facejax.runtime import mesh as mesh_lib
from facejax.runtime import program_text, topology

pytestmark = pytest.mark.tpu_compiler

CLASSES, DIM, BATCH = 400_000, 256, 1024
# As many bytes as these are in float32: less is moved into the chip as a whole.
MANY = 4 * CLASSES


def step(name, **options):
  """The compiled step, and the rows of a device."""
  mesh = mesh_lib.make_mesh(among=topology.devices(name))
  head = api.Head(
    memory.COSFACE,
    options.pop("num_classes", CLASSES),
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
    **{"precision": "bfloat16", **options},
  )
  compiled = memory.compile_step(head, dim=DIM, batch=BATCH)
  return compiled, head.rows // head.shards


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("v5e:2x2", {}),
    ("v5e:2x2", {"storage": "bfloat16", "optimizer_storage": "bfloat16"}),
    (
      "v5e:2x2",
      {"storage": "float8", "optimizer_storage": "float8", "num_classes": MANY},
    ),
    ("v5p:2x2x1", {"implementation": "partial_fc"}),
    ("v6e:2x2", {"implementation": "sparse"}),
  ],
  ids=str,
)
def test_prototypes_and_momentum_stay_where_they_are(name, options):
  compiled, rows = step(name, **options)
  memory_of = compiled.memory_analysis()
  state = memory_of.alias_size_in_bytes
  row = storage.row_bytes(DIM, options.get("storage", "float32"))
  # Prototypes and momentum, all of them updated in place.
  assert state >= 2 * rows * row
  text = program_text.ProgramText(compiled.as_text())
  assert text.rewritten((rows, DIM)) == []
  assert text.rewritten((rows, row)) == []
  # A few blocks of logits, where they do not stay in the chip's own memory.
  blocks_held = 3 * 4 * BATCH * 8192
  assert memory_of.temp_size_in_bytes <= 0.02 * state + blocks_held
  # The embeddings there in bfloat16, their gradient back in float32, and a few
  # numbers an example.
  sent = text.collectives(mesh_lib.make_mesh(among=topology.devices(name)))
  assert {one.axis for one in sent} == {"model"}
  assert sum(one.size for one in sent) <= BATCH * ((2 + 4) * DIM + 64)
  # The rows of a batch's classes meet their queries in float32, elementwise.
  assert set(text.products()) == {("bf16", "bf16")}
  assert text.cycles() > 0


def test_the_planner_prices_what_does_not_fit():
  """The compiler refuses a program for 40 GiB of prototypes."""
  mesh = mesh_lib.make_mesh(among=topology.devices("v5e:1x1"))
  head = api.Head(
    memory.COSFACE, 2 * 10**7, mesh, tx=memory.OPTIMIZERS["momentum"]
  )
  found = memory.estimate(head, dim=512, batch=64)
  assert "memory" in found.refused
  assert found.total > 2 * 4 * 512 * 2 * 10**7


def test_the_planner_speaks_of_chips_that_are_not_here(capsys):
  words = "--classes 100_000 --dim 128 --topology v5e:2x2 --precision bfloat16"
  assert plan.main(words.split()) == 0
  out = capsys.readouterr().out
  for text in (
    "4 TPU v5 lite",
    "15.75 GiB",
    "by the compiler's cycles",
    "all-reduce over model",
  ):
    assert text in out


def test_exponentials_are_not_saved_on_a_tpu():
  mesh = mesh_lib.make_mesh(among=topology.devices("v5e:2x2"))
  head = api.Head(heads.COSFACE, 100, mesh)
  with pytest.raises(ValueError, match="saved_bytes=1024: must be 0 on a TPU"):
    dataclasses.replace(head, saved_bytes=1024)
