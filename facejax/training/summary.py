"""What a run says about itself before it starts."""

import logging
import math
import os
from typing import Any

import jax
import rich.box
import rich.console
import rich.table

import facejax
from facejax.data import sources
from facejax.head import roofline, storage
from facejax.models import functional, lora
from facejax.runs import card as card_lib
from facejax.runs import checkpoint, classes
from facejax.runs import folder as run_folder
from facejax.runtime import program_text, topology
from facejax.training import build as program_lib
from facejax.training import config as config_lib
from facejax.training import (
  device_figures,
  held_out,
  inputs,
  meshes,
  needs,
  optimizers,
  state,
  telemetry,
)

logger = logging.getLogger(__name__)


def table(
  config: config_lib.Config,
  program: program_lib.Program,
  data: inputs.Data | None,
  total_steps: int | None,
  *,
  identities: int,
) -> rich.table.Table:
  """Devices, sizes and the memory that the state takes on each device.

  Args:
    config: of the run.
    program: of the run.
    data: what is read; None if it was not.
    total_steps: of the run.
    identities: of the images, without distractors.
  """
  images = data.images if data else None
  like, net = program.like, program.backbone
  shape = program.mesh.shape
  device = program.mesh.devices.flat[0]
  rows = {
    "devices": f"{program.mesh.size} x {device.device_kind}, mesh"
    f" data {shape['data']} x model {shape['model']}{_chosen(config, program)}",
    **_images(config, images, total_steps),
    **(held_out.described(config, data.pairs) if data else {}),
    "net": f"{net.name}, {functional.count(like.params):,} parameters"
    f"{_adapters(config, like)},"
    f" {net.multiply_adds / 1e6:,.0f} M multiply-adds, {config.model.dtype}",
    "head": _head(config, identities, like),
    "loss": _loss(config),
    "optimizer": _optimizer(config, images, total_steps),
    **({"stages": "\n".join(config.stages)} if config.stages else {}),
    "memory a device": ", ".join(
      f"{name} {needs.mib(size)}"
      for name, size in needs.of_device(config, program).items()
    ),
    "checkpoint": f"{needs.mib(checkpoint.bytes_on_disk(like))}, up to"
    f" {config.checkpoint.keep + config.checkpoint.keep_best} kept in"
    f" {config.workdir}",
  }
  return _two_columns(f"facejax {config.name}", rows)


def _chosen(config: config_lib.Config, program: program_lib.Program) -> str:
  """Why the mesh is this one, where it was to be chosen."""
  count = program.head.num_classes if program.head else 0
  why = meshes.reason(config, count, program.mesh)
  return f"\nchosen: {why}" if why else ""


def _adapters(config: config_lib.Config, like: state.TrainState) -> str:
  rank, number = config.model.lora, lora.count(like.params)
  return (
    f" ({number:,} of them trained: adapters of rank {rank})" if rank else ""
  )


def _images(
  config: config_lib.Config,
  images: sources.Source | None,
  total_steps: int | None,
) -> dict[str, str]:
  """What is trained on and how long; nothing of data that was not read."""
  height, width = config.data.image_size
  if images is None or total_steps is None:
    return {"images": f"not read, {height} x {width}"}
  epochs = total_steps * config.batch_size / len(images)
  return {
    "images": f"{len(images):,} of {images.num_classes:,} identities,"
    f" {height} x {width}",
    "steps": f"{total_steps:,} of {config.batch_size} images"
    f" ({epochs:.3g} epochs)",
  }


def _optimizer(
  config: config_lib.Config,
  images: sources.Source | None,
  total_steps: int | None,
) -> str:
  """How the run is optimized, as far as that is known without its data."""
  if images is None:
    return optimizers.described(config)
  return optimizers.described(
    config,
    total_steps=total_steps,
    steps_per_epoch=inputs.steps_per_epoch(config, len(images)),
  )


def introduce(
  config: config_lib.Config,
  program: program_lib.Program,
  data: inputs.Data | None = None,
  steps: int | None = None,
  *,
  identities: int | None = None,
) -> None:
  """Shows the table of a run, and what its loss advises.

  Args:
    config: of the run.
    program: of the run.
    data: what is read; None if it was not.
    steps: how many; likewise.
    identities: of images that were not read.
  """
  count = data.images.num_classes if data else identities or 0
  telemetry.show(table(config, program, data, steps, identities=count))
  classes = count + config.head.extra_classes
  dim = config.model.embedding_dim
  for text in config.loss.advice(num_classes=classes, dim=dim):
    logger.warning("%s", text)
  if text := meshes.complaint(config, classes, program.mesh):
    logger.warning("%s", text)


def write(
  folder: str | os.PathLike[str],
  config: config_lib.Config,
  images: sources.Source,
  *,
  final: config_lib.Config,
) -> None:
  """Keeps what is run and, beside the weights, what net and classes are.

  Args:
    folder: of the run.
    config: of the run.
    images: that it is trained on.
    final: its last stage, which is what the net is made for.
  """
  run_folder.write(folder, config_lib.stored(config))
  card = card_lib.from_config(
    config_lib.flatten(final),
    images=len(images),
    identities=images.num_classes,
    versions={"facejax": facejax.__version__, "jax": jax.__version__},
  )
  card_lib.write(folder, card)
  classes.write(folder, images.class_names)


def compiled_table(
  compiled: jax.stages.Compiled,
  config: config_lib.Config,
  program: program_lib.Program,
) -> rich.table.Table:
  """What the compiled step really takes, and what it sends."""
  memory: Any = compiled.memory_analysis()
  alias = memory.alias_size_in_bytes
  peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
  peak += memory.output_size_in_bytes - alias
  rows = {
    "arguments": needs.mib(memory.argument_size_in_bytes),
    "of which reused": needs.mib(alias),
    "temporaries": needs.mib(memory.temp_size_in_bytes),
    "peak": needs.mib(peak),
  }
  mesh = program.mesh
  chip = topology.chip_of(mesh.devices.flat[0])
  text = program_text.ProgramText(compiled.as_text() or "")
  sent = [
    f"{one.count:,} x {one.kind} over {one.axis}, {needs.mib(one.size)}"
    + (", inside a loop" if one.in_loop else "")
    for one in text.collectives(mesh)
    if one.axis
  ]
  if sent:
    rows["sent in a step"] = "\n".join(sent)
  if chip is not None:
    fits = "fits" if peak <= chip.memory else "does NOT fit"
    rows["peak"] += f" of {needs.mib(chip.memory)}: {fits}"
    rows |= _times(text.cycles(), config, program, chip)
  return _two_columns("compiled step, a device", rows)


def _times(
  cycles: int,
  config: config_lib.Config,
  program: program_lib.Program,
  chip: topology.Chip,
) -> dict[str, str]:
  """What a step takes at the least, and by the compiler's cycles."""
  operations = device_figures.trunk_operations(config, program)
  if program.head is not None:
    operations += roofline.operations(
      program.head, dim=config.model.embedding_dim, batch=config.batch_size
    )
  least = operations / chip.flops
  rows = {"products at the peak": f"{1e3 * least:,.1f} ms in bfloat16"}
  if cycles:
    seconds = cycles / chip.clock
    rows["step by the compiler"] = (
      f"{1e3 * seconds:,.1f} ms ({cycles:,} cycles), the matrix unit busy for"
      f" {least / seconds:.0%}"
    )
  return rows


def _two_columns(title: str, rows: dict[str, str]) -> rich.table.Table:
  out = rich.table.Table(title=title, show_header=False, box=rich.box.SIMPLE)
  for name, text in rows.items():
    out.add_row(name, text)
  return out


def _head(
  config: config_lib.Config, identities: int, like: state.TrainState
) -> str:
  """Which head, how it counts, and its size."""
  if like.prototypes is None:
    return "none, embeddings of a batch are compared"
  head, each = config.head, storage.shape(like.prototypes)[1:]
  about = {
    "fused": "exact, updated block by block",
    "pallas": "exact, in kernels for TPUs",
    "chunked": "exact, in blocks",
    "dense": "exact, all logits held",
    "partial_fc": f"a sample of {head.rate:.3g} of the classes",
    "sparse": "exact, updates the classes with a probability"
    if getattr(config.loss, "is_sparse", False)
    else f"exact loss, gradient for {head.rate:.3g} of the classes",
  }[head.implementation]
  classes = identities + head.extra_classes
  extra = f" ({head.extra_classes:,} extra)" if head.extra_classes else ""
  return (
    f"{head.implementation} ({about}), {classes:,} classes{extra} x"
    f" {' x '.join(map(str, each))} = {classes * math.prod(each):,} parameters,"
    f" {head.storage}, optimizer {head.optimizer_storage}"
  )


def _loss(config: config_lib.Config) -> str:
  """The loss with all its settings."""
  settings = [
    f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
    for name, value in vars(config.loss).items()
  ]
  if config.center.weight:
    settings.append(f"center loss {config.center.weight:g}")
  if config.memory.size:
    settings.append(
      f"a memory of {config.memory.size:,} from step {config.memory.start:,}"
    )
  return ", ".join([config.loss.name, *settings])
