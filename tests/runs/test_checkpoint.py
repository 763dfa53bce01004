"""Checkpoints survive damage, kills and full disks, on any mesh."""

import dataclasses
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding

from facejax.runs import checkpoint

P = jax.P


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  step: jax.Array
  params: dict
  prototypes: jax.Array
  optimizer: tuple
  extra: dict


def mesh_of(devices: int):
  return jax.make_mesh(
    (devices,), ("model",), (AxisType.Auto,), devices=jax.devices()[:devices]
  )


def make_state(devices: int = 8, *, rows: int = 16, seed: int = 0) -> State:
  rng = np.random.default_rng(seed)
  mesh = mesh_of(devices)

  def put(array, *spec):
    return jax.device_put(array, NamedSharding(mesh, P(*spec)))

  prototypes = np.zeros((rows, 512), np.float32)
  prototypes[:13] = rng.normal(size=(13, 512))
  params = {
    "dense": {"kernel": put(rng.normal(size=(3, 3)).astype(np.float32))},
    "bias": put(jnp.asarray(rng.normal(size=5), jnp.bfloat16)),
    "frozen": {},
  }
  momentum = optax.chain(optax.trace(0.9), optax.identity())
  return State(
    step=jnp.int32(seed),
    params=params,
    prototypes=put(prototypes, "model"),
    optimizer=momentum.init(params),
    extra={"flag": put(np.array(True)), "seen": put(np.uint32(9)), "empty": {}},
  )


def abstract(state: State, devices: int | None = None) -> State:
  """The state's shapes, on its own mesh or on one of so many devices."""

  def leaf(array):
    sharding = array.sharding
    if devices and isinstance(sharding, NamedSharding):
      sharding = NamedSharding(mesh_of(devices), sharding.spec)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

  return jax.tree.map(leaf, state)


def assert_equal(found: State, expected: State):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(
      np.asarray(a, np.float32), np.asarray(b, np.float32)
    )


def save_steps(folder, *steps: int) -> None:
  with checkpoint.Checkpoints(folder, keep=9) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(seed=step), metadata={"step": step})


def restore(folder, **options):
  return checkpoint.Checkpoints(folder).restore(
    abstract(make_state()), **options
  )


def data_file(folder, step: int) -> pathlib.Path:
  """The largest file of a step: the one that holds the arrays."""
  files = [p for p in (folder / str(step)).rglob("*") if p.is_file()]
  return max((p for p in files if p.parent.name == "d"), key=os.path.getsize)


@pytest.mark.parametrize("devices", [8, 2, 1])
def test_saved_on_eight_devices_read_on_others(tmp_path, devices):
  state = make_state(8)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, state, metadata={"classes": 13})
    like = abstract(state, devices)
    restored = checkpoints.restore(like)
  assert restored.step == 3
  assert restored.metadata == {"classes": 13}
  assert_equal(restored.state, state)
  assert restored.state.prototypes.sharding == like.prototypes.sharding


@pytest.mark.parametrize("rows", [13, 14, 24])
def test_padding_follows_the_number_of_devices(tmp_path, rows):
  state = make_state(8, rows=16)
  devices = 1 if rows == 13 else 2
  wanted = make_state(devices, rows=rows)
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state)
    restored = checkpoints.restore(
      abstract(wanted), resizable=lambda path: path == ".prototypes"
    )
    assert_equal(restored.state, wanted)
    with pytest.raises(ValueError, match=r"\.prototypes: stored shape"):
      checkpoints.restore(abstract(wanted))


def test_rows_that_hold_values_are_never_cut_off(tmp_path):
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state())
    like = dataclasses.replace(
      abstract(make_state()),
      prototypes=jax.ShapeDtypeStruct((12, 512), jnp.float32),
    )
    with pytest.raises(checkpoint.DamagedCheckpointError, match="not zero"):
      checkpoints.restore(like, resizable=lambda path: True)


def test_part_of_a_state(tmp_path):
  state = make_state()
  save_steps(tmp_path, 0)
  like = dataclasses.replace(abstract(state), optimizer=None, extra=None)
  with pytest.raises(ValueError, match=r"\.extra\['flag'\]: not wanted"):
    checkpoint.Checkpoints(tmp_path).restore(like)
  restored = checkpoint.Checkpoints(tmp_path).restore(like, partial=True)
  np.testing.assert_array_equal(restored.state.prototypes, state.prototypes)


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path):
  overwrite = jax.jit(
    lambda tree: jax.tree.map(lambda x: x * 0 - 1, tree), donate_argnums=0
  )
  sharding = NamedSharding(mesh_of(8), P("model"))
  values = np.random.default_rng(0).normal(size=(1 << 16, 64))
  state = {"w": jax.device_put(values.astype(np.float32), sharding)}
  like = {
    "w": jax.ShapeDtypeStruct((1 << 16, 64), "float32", sharding=sharding)
  }
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state)
    for _ in range(3):
      state = overwrite(state)
    jax.block_until_ready(state)
    restored = checkpoints.restore(like)
  np.testing.assert_array_equal(
    np.asarray(restored.state["w"]), values.astype(np.float32)
  )


@pytest.mark.parametrize("large", [0, 2**30])
def test_a_large_state_on_cpus_is_written_first(tmp_path, monkeypatch, large):
  """Or a step that began meanwhile would need as much memory again."""
  monkeypatch.setattr(checkpoint, "_LARGE", large)
  waits = []
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state())
    wait = checkpoints._writer.wait
    monkeypatch.setattr(
      checkpoints._writer, "wait", lambda: waits.append(wait())
    )
    checkpoints.save(2, make_state())
    assert len(waits) == (2 if large == 0 else 1)
    if large == 0:
      assert checkpoints.steps == [1, 2]


def test_keeps_the_newest_and_the_best(tmp_path):
  state = make_state()
  scores = {1: 0.7, 2: 0.9, 3: 0.8, 4: None, 5: float("nan"), 6: 0.1}
  for step, score in scores.items():
    # A new object for every step: what is best is read back from the disk.
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
      metrics = None if score is None else {"accuracy": score}
      checkpoints.save(step, state, metrics=metrics)
  assert checkpoint.Checkpoints(tmp_path).steps == [2, 5, 6]


def test_without_metrics_only_the_newest_stay(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2, keep_best=1) as checkpoints:
    for step in range(4):
      checkpoints.save(step, make_state())
  assert checkpoint.Checkpoints(tmp_path).steps == [2, 3]
  with pytest.raises(ValueError, match="keep=0"):
    checkpoint.Checkpoints(tmp_path, keep=0)


def test_a_folder_without_checkpoints(tmp_path):
  folder = tmp_path / "absent"
  assert restore(folder) is None
  assert not folder.exists()
  (tmp_path / "notes.txt").write_text("not a step")
  assert restore(tmp_path) is None


def test_one_step_by_number(tmp_path):
  save_steps(tmp_path, 1, 2)
  assert restore(tmp_path, step=1).metadata == {"step": 1}
  with pytest.raises(FileNotFoundError, match=r"step 7 .* \[1, 2\]"):
    restore(tmp_path, step=7)


def flip_bit(folder, step):
  path = data_file(folder, step)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def truncate(folder, step):
  path = data_file(folder, step)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_data(folder, step):
  data_file(folder, step).unlink()


def remove_record(folder, step):
  (folder / str(step) / "_CHECKPOINT_METADATA").unlink()


def garble_record(folder, step):
  (folder / str(step) / "_CHECKPOINT_METADATA").write_text("{")


def change_record(folder, step):
  # Still readable; without the seal it would be that of another kind of state.
  path = folder / str(step) / "_CHECKPOINT_METADATA"
  text = path.read_text()
  assert ".prototypes" in text
  path.write_text(text.replace(".prototypes", ".prototypec"))


def garble_tree(folder, step):
  (folder / str(step) / "state" / "_METADATA").write_text("{")


def empty(folder, step):
  shutil.rmtree(folder / str(step))
  (folder / str(step)).mkdir()


DAMAGES = [
  flip_bit,
  truncate,
  remove_data,
  remove_record,
  garble_record,
  change_record,
  garble_tree,
  empty,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_falls_back_to_the_step_before_the_damage(tmp_path, damage, caplog):
  save_steps(tmp_path, 1, 2)
  damage(tmp_path, 2)
  with caplog.at_level(logging.WARNING, "facejax"):
    restored = restore(tmp_path)
  assert restored.step == 1
  assert_equal(restored.state, make_state(seed=1))
  assert [r.name for r in caplog.records] == ["facejax.runs.checkpoint"]
  assert "step 2 is damaged" in caplog.text
  with pytest.raises(checkpoint.DamagedCheckpointError, match="step 2"):
    restore(tmp_path, step=2)
  damage(tmp_path, 1)
  with pytest.raises(
    checkpoint.DamagedCheckpointError, match="step 1"
  ) as error:
    restore(tmp_path)
  assert "step 2" in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("damage", [flip_bit, garble_record, empty])
def test_training_goes_on_after_damage(tmp_path, damage):
  save_steps(tmp_path, 1, 5)
  damage(tmp_path, 5)
  like = abstract(make_state())
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.restore(like).step == 1
    checkpoints.save(3, make_state(seed=3))
    checkpoints.wait()
    assert checkpoints.steps == [1, 3], "the damaged step 5 makes way"
    checkpoints.save(5, make_state(seed=5))
    assert_equal(checkpoints.restore(like).state, make_state(seed=5))


def test_a_flipped_bit_never_passes_silently(tmp_path):
  save_steps(tmp_path, 1)
  path, like = data_file(tmp_path, 1), abstract(make_state())
  content = path.read_bytes()
  found = 0
  for position in range(0, len(content), len(content) // 20):
    changed = bytearray(content)
    changed[position] ^= 1 << (position % 8)
    path.write_bytes(changed)
    try:
      restored = checkpoint.Checkpoints(tmp_path).restore(like)
      # The bit lay in a part of the file that is not read.
      assert_equal(restored.state, make_state(seed=1))
    except checkpoint.DamagedCheckpointError:
      found += 1
  assert found > 15


def test_other_kinds_of_state_are_refused(tmp_path):
  save_steps(tmp_path, 1, 2)
  like = abstract(make_state())
  kernel = jax.ShapeDtypeStruct((3, 4), jnp.float32)
  like.params["dense"] = {"kernel": kernel, "scale": kernel}
  with pytest.raises(ValueError) as error:
    checkpoint.Checkpoints(tmp_path).restore(like)
  message = str(error.value)
  assert "['kernel']: stored shape (3, 3), wanted (3, 4)" in message
  assert "['scale']: not stored" in message
  assert str(tmp_path / "2") in message


def test_size_estimate_bounds_the_files(tmp_path):
  state = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(512, 512)))}
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state)
  files = [p for p in tmp_path.rglob("*") if p.is_file()]
  size = sum(p.stat().st_size for p in files)
  assert checkpoint.bytes_on_disk(state) == 4 * 512 * 512
  assert 0.8 < size / checkpoint.bytes_on_disk(state) < 1.05


PRELUDE = """
  import os, resource, signal, sys, time
  import jax, numpy as np
  jax.config.update("jax_platforms", "cpu")
  import jax.numpy as jnp
  from facejax.runs import checkpoint

  def state(step):
    rng = np.random.default_rng(step)
    return {"w": jnp.asarray(rng.normal(size=(1 << 17, 128)), jnp.float32)}

  folder = sys.argv[1]
  checkpoints = checkpoint.Checkpoints(folder)
"""


def start(body: str, folder) -> subprocess.Popen:
  code = textwrap.dedent(PRELUDE) + textwrap.dedent(body)
  return subprocess.Popen(
    [sys.executable, "-c", code, str(folder)],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def test_killed_in_the_middle_of_a_save(tmp_path):
  process = start(
    """
    checkpoints.save(1, state(1))
    checkpoints.wait()
    checkpoints.save(2, state(2))
    while not list(checkpoints.folder.glob("2.*")):
      time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)
    """,
    tmp_path,
  )
  process.communicate(timeout=120)
  assert process.returncode == -signal.SIGKILL
  like = {"w": jax.ShapeDtypeStruct((1 << 17, 128), jnp.float32)}
  with checkpoint.Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.steps == [1]
    assert list(tmp_path.glob("2.*")), "what the kill left"
    restored = checkpoints.restore(like)
    values = np.random.default_rng(1).normal(size=(1 << 17, 128))
    np.testing.assert_array_equal(
      restored.state["w"], values.astype(np.float32)
    )
    checkpoints.save(3, make_state())
  assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3"]


def test_disk_full_is_an_error_and_older_steps_stay(tmp_path):
  process = start(
    """
    checkpoints.save(1, state(1))
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
    checkpoints.save(2, state(2))
    try:
      checkpoints.save(3, state(3))
    except OSError as error:
      print("MESSAGE", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
    print("STEPS", checkpoints.steps)
    checkpoints.save(4, state(4))
    checkpoints.wait()
    print("STEPS", checkpoints.steps)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
    try:
      with checkpoints:
        checkpoints.save(5, state(5))
    except OSError as error:
      print("CLOSED", error)
    """,
    tmp_path,
  )
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0, output
  message = output.split("MESSAGE ")[1].splitlines()[0]
  assert "step 2" in message and str(tmp_path) in message, output
  assert "too large" in message.lower(), output
  assert output.count("STEPS [1]\n") == 1, output
  assert output.count("STEPS [1, 4]\n") == 1, output
  assert "CLOSED could not write the checkpoint of step 5" in output
  assert "Traceback" not in output and "absl" not in output, output
  assert checkpoint.Checkpoints(tmp_path).steps == [1, 4]


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  checkpoints = checkpoint.Checkpoints(tmp_path / "file" / "checkpoints")
  with pytest.raises(OSError, match="could not write the checkpoint of step 1"):
    checkpoints.save(1, make_state())


def test_a_score_that_comes_after_the_save_decides_what_is_best(tmp_path):
  state = make_state()
  for step, score in {1: 0.9, 2: 0.2, 3: float("nan"), 4: None}.items():
    # A new object for every step: what is best is read back from the disk.
    with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
      checkpoints.save(step, state)
      if score is not None:
        checkpoints.score(step, {"accuracy": score})
  assert checkpoint.Checkpoints(tmp_path).steps == [1, 4]
  (tmp_path / "scores.json").write_text("{")
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(5, state, metrics={"accuracy": 0.5})
    checkpoints.score(5, {"accuracy": 0.6})
  assert 5 in checkpoint.Checkpoints(tmp_path).steps


def test_metadata_is_looked_at_before_arrays_are_cut(tmp_path):
  def accept(metadata):
    raise ValueError(f"step={metadata['step']} is not wanted")

  save_steps(tmp_path, 1)
  like = dataclasses.replace(
    abstract(make_state()),
    prototypes=jax.ShapeDtypeStruct((12, 512), jnp.float32),
  )
  with pytest.raises(ValueError, match="step=1 is not wanted"):
    checkpoint.Checkpoints(tmp_path).restore(
      like, resizable=lambda path: True, accept=accept
    )
