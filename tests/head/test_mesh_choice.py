"""How many devices the classes are split over, by what is sent."""

import functools
import types

import pytest

from facejax.head import api, memory, mesh_choice

Load, Links = mesh_choice.Load, mesh_choice.Links
FACES = functools.partial(Load, dim=512, narrow=True, platform="gpu")


@pytest.mark.parametrize("classes", [20_000, 1000])
@pytest.mark.parametrize("model", [8, 4, 2, 1])
def test_it_is_what_the_compiled_step_sends(model, classes):
  mesh = memory.make_mesh(devices=8, model=model)
  head = api.Head(
    memory.COSFACE,
    classes,
    mesh,
    tx=memory.OPTIMIZERS["momentum"],
  )
  program = memory.estimate(head, dim=64, batch=256)
  load = Load(batch=256, dim=64, classes=classes)
  found = mesh_choice.sent(load, Links(8), model)
  total, messages = 0.0, 0
  sizes = {"data": 8 // model, "model": model}
  for one in program.collectives:
    # XLA keeps messages of one device to itself; those of an example's few
    # numbers, and labels, are not counted.
    if sizes.get(one.axis, 1) == 1 or one.size < 2**14:
      continue
    rounds = 2 if one.kind == "all-reduce" else 1
    total += rounds * one.size * (1 - 1 / sizes[one.axis])
    messages += one.count * (one.axis == "data")
  if model < 8:
    assert found.messages - 2 * (model > 1) == messages
  # Labels may travel with the embeddings.
  assert found.bytes == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize(
  ("load", "links", "model"),
  [
    # A million classes: no copies, on whatever links.
    (FACES(batch=1024, classes=10**6), Links(64), 64),
    (FACES(batch=8192, classes=10**6), Links(512, 64), 512),
    # Far fewer classes a shard than examples: about sqrt(B N / C) copies.
    (FACES(batch=65_536, classes=93_431), Links(512), 32),
    (FACES(batch=65_536, classes=93_431), Links(512, 64), 64),
    # Kilobytes: a message costs more than its bytes.
    (Load(batch=128, dim=128, classes=500), Links(8), 8),
    (Load(batch=64, dim=64, classes=100), Links(1), 1),
  ],
)
def test_the_rule(load, links, model):
  assert mesh_choice.choose(load, links).model == model
  # What is chosen is never complained about.
  assert mesh_choice.complaint(load, links, model) is None


def test_copies_must_fit():
  load = FACES(batch=65_536, classes=93_431, class_bytes=6144)
  rows = -(-93_431 // 64)
  room = 2 * rows * load.class_bytes
  assert mesh_choice.choose(load, Links(512, memory=room)).model == 64
  assert mesh_choice.choose(load, Links(512, memory=room - 1)).model >= 128
  # All devices are taken where nothing fits: others say what to do.
  assert mesh_choice.choose(load, Links(512, memory=1)).model == 512


def test_kernels_know_no_copies():
  load = FACES(batch=65_536, classes=93_431, copies=False)
  assert mesh_choice.choose(load, Links(512)).model == 512
  assert mesh_choice.complaint(load, Links(512), 512) is None


def test_links_between_nodes_count():
  load = FACES(batch=1024, classes=10**6)
  near, far = (
    mesh_choice.sent(load, Links(64, islands), 8) for islands in (1, 8)
  )
  assert near.bytes == far.bytes and near.far == 0
  # Copies on eight nodes: all but the first of eight parts comes from others.
  assert far.far == pytest.approx(8 * 125_000 * 512 * 7 / 8)
  whole = mesh_choice.sent(load, Links(64, 8), 64)
  assert whole.far == pytest.approx(1024 * 512 * 6 * 7 / 64)


def test_what_is_bad_is_said_with_numbers():
  load = Load(batch=1024, dim=512, classes=10**6)
  text = mesh_choice.complaint(load, Links(8), 2)
  assert text is not None
  assert "mesh.model=2 of 8 devices each sends 1,470.5 MiB" in text
  assert "--mesh.model 8 3.5 MiB" in text
  assert mesh_choice.complaint(load, Links(8), 8) is None


def device(process, platform="gpu", **attributes):
  return types.SimpleNamespace(
    process_index=process, platform=platform, **attributes
  )


@pytest.mark.parametrize(
  ("devices", "count"),
  [
    ([device(0)] * 8, 1),
    ([device(k // 4, "cpu") for k in range(8)], 2),
    # One process a GPU, eight a node.
    ([device(k, slice_index=k // 8) for k in range(16)], 2),
    ([device(k // 4, "tpu") for k in range(16)], 1),
    ([device(k // 4, "tpu", slice_index=k // 8) for k in range(16)], 2),
    ([device(0), device(0), device(1)], 1),
  ],
)
def test_islands(devices, count):
  assert mesh_choice.islands(devices) == count
