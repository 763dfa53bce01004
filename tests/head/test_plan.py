"""The planned memory of the head against arrays and programs that exist."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from facejax.head import api, memory, plan

pytestmark = pytest.mark.program_of_users

CLASSES, DIM, BATCH = 1183, 16, 16
GIB = 2**30


def place(array, mesh, spec):
  return jax.device_put(array, jax.NamedSharding(mesh, spec))


def on_first_device(*arrays):
  return sum(a.addressable_shards[0].data.nbytes for a in arrays)


@pytest.mark.parametrize(
  ("optimizer", "dtype", "state_dtype", "centers", "shape"),
  [
    ("momentum", "float32", "float32", 1, (8, 8)),
    ("momentum", "bfloat16", "bfloat16", 1, (8, 4)),
    ("adamw", "float32", "bfloat16", 3, (2, 2)),
    ("sgd", "bfloat16", "float32", 1, (1, 1)),
    ("momentum", "float8", "float8", 1, (8, 8)),
    ("lion", "float8", "float8", 2, (4, 2)),
  ],
)
def test_equals_what_a_real_step_holds(
  optimizer, dtype, state_dtype, centers, shape
):
  mesh = memory.make_mesh(devices=shape[0], model=shape[1])
  tx = memory.OPTIMIZERS[optimizer]
  key = jax.random.key(0)
  head = api.Head(
    memory.COSFACE,
    CLASSES,
    mesh,
    tx=tx,
    centers=centers,
    storage=dtype,
    optimizer_storage=state_dtype,
  )
  planned = memory.estimate(head, dim=DIM, batch=BATCH)
  # Step counts are made on one device.
  state = jax.tree.map(
    lambda leaf: leaf if leaf.ndim else place(leaf, mesh, jax.P()),
    head.init(key, dim=DIM),
  )
  split = jax.P(("data", "model"))
  embeddings = place(jax.random.normal(key, (BATCH, DIM)), mesh, split)
  labels = place(jnp.arange(BATCH, dtype=jnp.int32), mesh, split)
  buffers = planned.buffers
  assert buffers["prototypes"] == on_first_device(state.prototypes)
  assert sum(
    size for name, size in buffers.items() if name.startswith("optimizer")
  ) == on_first_device(*jax.tree.leaves(state.optimizer))
  assert buffers["embeddings and labels"] == on_first_device(embeddings, labels)

  jitted = jax.jit(head.update, donate_argnums=0)
  arguments = state, embeddings, labels
  actual = jitted.lower(*arguments, key=key).compile().memory_analysis()
  assert planned.total == (
    actual.argument_size_in_bytes
    + actual.output_size_in_bytes
    - actual.alias_size_in_bytes
    + actual.temp_size_in_bytes
  )
  result = jitted(*arguments, key=key)
  gradient = on_first_device(result.d_embeddings)
  assert buffers["gradient of the embeddings"] == gradient
  # A few numbers for each example: nothing came back beside its argument.
  assert 0 <= buffers["other"] < 64 * BATCH + 4096


def make_head(mesh, *, num_classes=1_000_000, **options):
  tx = memory.OPTIMIZERS["momentum"]
  return api.Head(memory.COSFACE, num_classes, mesh, tx=tx, **options)


def test_dense_is_charged_for_the_logits():
  mesh = memory.make_mesh(devices=8)
  fused, dense = (
    memory.estimate(
      make_head(mesh, num_classes=1_000_003, implementation=name),
      dim=64,
      batch=256,
    )
    for name in ("fused", "dense")
  )
  assert fused.rows == dense.rows == 125_001
  logits = 4 * 256 * fused.rows
  assert fused.buffers["temporaries"] < logits / 10
  assert logits < dense.buffers["temporaries"] < 8 * logits


@pytest.mark.slow
@pytest.mark.parametrize(
  "options",
  [{}, {"implementation": "dense"}, {"implementation": "partial_fc"}],
  ids=str,
)
def test_what_is_said_to_fit_fits(options):
  mesh = memory.make_mesh(devices=8, model=4)
  growth = memory.growth(make_head(mesh, **options), dim=64, batch=256)

  def total(count):
    head = make_head(mesh, num_classes=count, **options)
    return memory.estimate(head, dim=64, batch=256).total

  room = 3 * GIB
  count = growth.classes(room, shards=4)
  assert 0.999 * room < total(count) <= room + 2**16
  assert total(int(1.01 * count)) > room


def test_nothing_fits_where_even_the_blocks_do_not():
  assert memory.Growth(4096.0, 2.0**20).classes(2**19, shards=8) == 0


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [None, 65_536])
def test_29_million_classes_fit_16_gib(block_size):
  mesh = memory.make_mesh(devices=8)
  head = make_head(mesh, num_classes=29_000_000, block_size=block_size)
  planned = memory.estimate(head, dim=512, batch=1024)
  assert planned.total <= 14.5 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [None, 65_536])
def test_92_million_classes_fit_24_gib(block_size):
  head = make_head(
    memory.make_mesh(devices=8),
    num_classes=92_000_000,
    storage="bfloat16",
    optimizer_storage="bfloat16",
    block_size=block_size,
  )
  planned = memory.estimate(head, dim=512, batch=1024)
  assert planned.total <= 22.5 * GIB


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ("--classes 0", "'0': must be a whole number from 1 to 2,147,"),
    ("--classes 2_200_000_000", "2,147,418,112: class ids are int32"),
    (
      "--classes 10 --optimizer adamw --optimizer-storage float8",
      "optimizer_storage=float8 with adamw, which divides by sums of squares",
    ),
    ("--classes 1e7", "'1e7': must be a whole number"),
    ("--classes 10 --dim 65_537", "'65_537': must be .* 1 to 65,536"),
    ("--classes 10 --rate 0", "'0': must be a number from 0.001 to 1"),
    ("--classes 10 --memory-gib nan", "'nan': must be a number"),
    ("--classes 10 --optimizer adam", "'adam'.*'adamw'"),
    ("--classes 10 --devices 9", "devices=9: JAX runs with 8 .*choose 1 to 8"),
    ("--classes 10 --devices 6 --model 4", "model=4: must divide devices=6"),
    ("--classes 10 --batch 1001", "batch=1001 .* 8 devices: use 1000 or 1008"),
    (
      "--classes 10 --memory-gib 8 --reserve-gib 9",
      "--reserve-gib 9: must be less than .* 8.00 GiB",
    ),
    (
      "--classes 10 --implementation chunked --optimizer-storage bfloat16",
      "'chunked' keeps its state in float32, not bfloat16: use fused",
    ),
    (
      "--classes 10 --implementation pallas",
      "--implementation pallas: .* TPUs, not for cpu; .* plan for fused",
    ),
    ("--classes 10 --json missing/plan.json", "missing/plan.json: make its"),
  ],
)
def test_mistakes_are_told(arguments, message, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  # The planner asks for more devices only before JAX has started.
  assert len(jax.devices()) == 8
  try:
    code = plan.main(arguments.split())
  except SystemExit as leaving:
    code = leaving.code
  assert code == 2
  printed = capsys.readouterr().err.strip().splitlines()[-1]
  with pytest.raises(ValueError, match=message):
    raise ValueError(printed)


@pytest.mark.slow
def test_command_line(tmp_path):
  path = tmp_path / "plan.json"
  arguments = (
    "--classes 4_000_000 --dim 32 --batch 96 --devices 6 --model 3 --platform"
    f" gpu --memory-gib 1 --reserve-gib 0.5 --json {path}"
  )
  # More devices than any machine of the tests has: simulated.
  done = subprocess.run(
    [sys.executable, "-m", "facejax.head.plan", *arguments.split()],
    capture_output=True,
    text=True,
    check=True,
  )
  assert not done.stderr
  assert "4,000,000 classes x 32" in done.stdout
  assert "compiled for 6 CPU device(s); an accelerator's" in done.stdout
  assert (
    "512.00 MiB for the head on each device: 1 GiB given less" in done.stdout
  )
  figures = json.loads(path.read_text())
  assert figures["settings"]["model"] == 3
  # The rule for a GPU: 256 MiB of logits.
  assert (
    figures["block_size"] * 48 * 4 <= 2**28 < figures["block_size"] * 96 * 4
  )
  fused, dense, sampled = figures["implementations"].values()
  rows = 1_333_334
  for found in (fused, dense, sampled):
    assert found["rows"] == rows
    assert found["buffers"]["prototypes"] == 4 * 32 * rows
    assert found["peak"] == sum(found["buffers"].values())
    assert found["fits"] == (found["peak"] <= GIB / 2)
    assert found["fits"] == (found["classes_that_fit"] >= 4_000_000)
  assert fused["bytes_per_class"] == pytest.approx(8 * 32, rel=0.01)
  assert dense["peak"] > sampled["peak"]


def test_importing_starts_no_backend():
  # Once a backend runs, the number of devices cannot be set.
  code = (
    "import jax; from facejax.head import plan;"
    " jax.config.update('jax_platforms', 'cpu');"
    " jax.config.update('jax_num_cpu_devices', 3); print(jax.device_count())"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "3"
