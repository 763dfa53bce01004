"""Programs are read for what they do, by hand-made texts and real ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facejax.runtime import mesh as mesh_lib
from facejax.runtime import program_text

pytestmark = pytest.mark.program_of_users

P = jax.P


def compiled(function, *shapes, specs, out, mesh):
  mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out)
  arrays = [
    jax.ShapeDtypeStruct(
      shape, jnp.float32, sharding=jax.NamedSharding(mesh, spec)
    )
    for shape, spec in zip(shapes, specs, strict=True)
  ]
  return program_text.ProgramText(
    jax.jit(mapped).lower(*arrays).compile().as_text()
  )


@pytest.mark.parametrize("axis", ["data", "model", ("data", "model")])
def test_collectives_are_told_by_axis_and_size(axis):
  mesh = mesh_lib.make_mesh(devices=8, model=4)
  everything = P(("data", "model"))

  def total(x):
    return jax.lax.psum(x, axis)

  out = {"data": P("model"), "model": P("data")}.get(axis, P())
  text = compiled(total, (8, 25), specs=(everything,), out=out, mesh=mesh)
  (one,) = text.collectives(mesh)
  names = axis if isinstance(axis, str) else ", ".join(axis)
  assert (one.kind, one.axis, one.count) == ("all-reduce", names, 1)
  assert one.size == 4 * 25 and not one.in_loop


def test_what_a_loop_sends_is_counted_every_time():
  mesh = mesh_lib.make_mesh(devices=8)

  def loop(x):
    def body(_, x):
      return jax.lax.pcast(jax.lax.psum(x, "model") / 8, "model", to="varying")

    x = jax.lax.fori_loop(0, 5, body, x[0])
    return x[None]

  text = compiled(loop, (8, 30), specs=(P("model"),), out=P("model"), mesh=mesh)
  (one,) = text.collectives(mesh)
  assert (one.count, one.size, one.in_loop) == (5, 5 * 4 * 30, True)


def test_gathering_is_counted_by_what_comes_out():
  mesh = mesh_lib.make_mesh(devices=8)
  gather = functools.partial(jax.lax.all_gather, axis_name="model", tiled=True)
  text = compiled(
    lambda x: gather(x, to="invarying"),
    (64, 8),
    specs=(P("model"),),
    out=P(),
    mesh=mesh,
  )
  assert sum(one.size for one in text.collectives(mesh)) == 4 * 64 * 8


# As a TPU's compiler writes them: cycles, trips in the condition, a copy into
# another layout, a fusion that converts, one that updates in place.
TPU = """HloModule jit_step, is_scheduled=true

%fused_convert (p: f32[300,20]) -> bf16[300,20] {
  %p = f32[300,20]{1,0} parameter(0)
  ROOT %c = bf16[300,20]{1,0} convert(%p)
}

%fused_put (p: f32[300,20], v: f32[10,20], i: s32[]) -> f32[300,20] {
  %p = f32[300,20]{1,0} parameter(0)
  %v = f32[10,20]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %d = f32[300,20]{1,0} dynamic-update-slice(%p, %v, %i, %i)
}

%body (t: (s32[], f32[300,20])) -> (s32[], f32[300,20]) {
  %t = (s32[], f32[300,20]{1,0}) parameter(0)
  %w = f32[300,20]{1,0} get-tuple-element(%t), index=1
  %i = s32[] get-tuple-element(%t), index=0
  %v = f32[10,20]{1,0} broadcast(%i), dimensions={}
  %new = f32[300,20]{1,0} fusion(%w, %v, %i), kind=kLoop, calls=%fused_put, backend_config={"estimated_cycles":"700"}
  ROOT %r = (s32[], f32[300,20]{1,0}) tuple(%i, %new)
}

%condition (t: (s32[], f32[300,20])) -> pred[] {
  %limit = s32[] constant(30)
  %t = (s32[], f32[300,20]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (w: f32[300,20]) -> f32[300,20] {
  %w = f32[300,20]{1,0} parameter(0)
  %turned = f32[300,20]{0,1} copy(%w), backend_config={"estimated_cycles":"50"}
  %narrow = bf16[300,20]{1,0} fusion(%turned), kind=kLoop, calls=%fused_convert
  %zero = s32[] constant(0)
  %start = (s32[], f32[300,20]{1,0}) tuple(%zero, %turned)
  %loop = (s32[], f32[300,20]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[300,20]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_cycles_count_every_turn_of_a_loop():
  assert program_text.ProgramText(TPU).cycles() == 50 + 30 * 700


def test_arrays_that_are_written_anew_are_found():
  text = program_text.ProgramText(TPU)
  names = [one.name for one in text.rewritten((300, 20))]
  assert names == ["turned", "narrow"]
  assert text.rewritten((10, 20)) == []


def test_a_real_transposition_is_found():
  text = jax.jit(lambda x: (x.T @ x, x.T)).lower(jnp.ones((40, 30))).compile()
  found = program_text.ProgramText(text.as_text()).rewritten((30, 40))
  assert found


def test_products_by_the_types_of_their_operands():
  x = jnp.ones((8, 8), jnp.float32)
  text = jax.jit(lambda x: x @ x).lower(x).compile().as_text()
  assert set(program_text.ProgramText(text).products()) <= {("f32", "f32")}


@pytest.mark.parametrize(
  ("groups", "axis"),
  [
    ("replica_groups={{0,1,2,3},{4,5,6,7}}", "model"),
    ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", "data"),
    ("replica_groups=[2,4]<=[8]", "model"),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", "data"),
    ("replica_groups=[1,8]<=[8]", "data, model"),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", "model"),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", "data"),
    ("replica_groups={{0,2},{1,3},{4,6},{5,7}}", "?"),
  ],
)
def test_every_spelling_of_groups(groups, axis):
  text = program_text.ProgramText(
    "ENTRY %main (x: f32[8]) -> f32[8] {\n"
    "  %x = f32[8]{0} parameter(0)\n"
    f"  ROOT %y = f32[8]{{0}} all-reduce(%x), {groups}, to_apply=%add\n"
    "}\n"
  )
  mesh = mesh_lib.make_mesh(devices=8, model=4)
  (one,) = text.collectives(mesh)
  assert one.axis == axis and one.size == 32


def test_sizes_of_narrow_types():
  assert program_text.size_of("(u4[10], pred[3], f64[])") == 5 + 3 + 8
  assert np.isclose(program_text.size_of("token[]"), 0)
