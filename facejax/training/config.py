"""The typed configuration of a run. Recipes return one; every field is a flag.

Nothing but the command lines reads these classes: all that lies below takes
explicit arguments. A number's range stands in its type; `config_checks` holds
the values against it.
"""

import dataclasses
import json
from typing import Annotated, Any, Literal

import annotated_types
import tyro

from facejax.data import orientation
from facejax.data.augment import augment as augment_lib
from facejax.models import config as model_config
from facejax.training import lengths, mesh_config, optim_config, term_config
from facejax.training.objectives import registry

# In eval.pairs: nothing is verified.
NO_PAIRS = "none"
_Side = Annotated[int, annotated_types.Ge(1)]


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Training images and how they are varied."""

  source: Literal[
    "synthetic", "folder", "record_io", "array_record", "tfds"
  ] = "synthetic"
  """synthetic: generated faces; folder: PATH/identity/image.jpg; record_io:
  InsightFace's train.rec and train.idx; array_record: what
  facejax.data.convert writes; tfds: a data set of TensorFlow Datasets. With
  --data.path alone, what lies there decides."""
  path: str = ""
  """Folder of the training images."""
  recursive: bool = False
  """Take images at any depth within the folder of an identity, too (folder)."""
  split: str = "train"
  """Split of a data set of TFDS, such as train[:90%]."""
  join: tuple[str, ...] = ()
  """Further sets as SOURCE:PATH. Their people count as others, even under the
  same name."""
  identities: str = ""
  """File that picks identities: one name a line, or an LFW people file. Empty
  takes all."""
  exclude: str = ""
  """File of the same kind that leaves identities out, such as the people of a
  test set, or images, PERSON/IMAGE."""
  merge: str = ""
  """Table (CSV) with person and into: whose images are in truth another
  identity's."""
  relabel: str = ""
  """Table (CSV) with image and person: images, PERSON/IMAGE, that show somebody
  else of the set."""
  min_images: Annotated[int, annotated_types.Ge(1)] = 1
  """Identities with fewer images are left out."""
  image_size: tuple[_Side, _Side] = (112, 112)
  """Height and width that images are resized to."""
  crop: Annotated[float, annotated_types.Interval(gt=0, le=1)] = 1.0
  """Share of each side of the image, about its centre, that is used."""
  num_identities: Annotated[int, annotated_types.Ge(2)] = 500
  """Identities of the synthetic set."""
  images_per_identity: Annotated[int, annotated_types.Ge(2)] = 20
  """Images of each identity of the synthetic set."""
  exif: orientation.Exif = "apply"
  """Whether images are turned upright as their EXIF says; ignore for published
  crops that were made without."""
  policy: Literal["none", "light", "adaface", "insightface"] = "none"
  """Named set of random changes; fields of augment win where they differ from
  their defaults. No set mirrors: that is augment.flip."""
  identities_per_batch: Annotated[int, annotated_types.Ge(0)] = 0
  """Identities of which each batch holds several images, for losses within a
  batch; 0 shuffles all images."""
  images_of_identity: Annotated[int, annotated_types.Ge(0)] = 0
  """How many images of each of these; the batch size must be identities
  times images plus random_negatives."""
  random_negatives: Annotated[int, annotated_types.Ge(0)] = 0
  """Further images of other identities in each batch."""
  cache: bool = False
  """Keep decoded images in memory, for sets that are slow to make or read."""
  threads: Annotated[int, annotated_types.Ge(1)] = 2
  """Threads that read and decode."""
  workers: Annotated[int, annotated_types.Ge(0)] = 0
  """Processes that read and decode; 0 uses threads alone."""
  on_error: Literal["skip", "raise"] = "skip"
  """An image that cannot be read: skip takes another of the same identity and
  counts it, raise stops the run."""
  max_bad_share: Annotated[float, annotated_types.Interval(ge=0, le=1)] = 0.01
  """The run stops when more than this share of the images is unreadable."""


@dataclasses.dataclass(frozen=True)
class HeadConfig:
  """The classification head."""

  implementation: Literal[
    "fused", "pallas", "chunked", "dense", "partial_fc", "sparse"
  ] = "fused"
  """Exact: fused (class by block of classes, updated at once), pallas (the
  same in kernels for TPUs, for the plain margin losses), chunked (the
  same with the whole gradient held, for any optimizer), dense (all logits
  held; the specification). Not exact: partial_fc (counts and updates a sample
  of the classes), sparse (counts all, updates the most probable; exact for
  alpha_cosface and alpha_arcface, which give most classes no probability)."""
  rate: Annotated[float, annotated_types.Interval(gt=0, le=1)] = 0.1
  """Share of the classes that partial_fc samples or sparse updates, beside
  those of the batch."""
  interclass_filtering_threshold: Annotated[
    float, annotated_types.Interval(ge=0, lt=1)
  ] = 0.0
  """Other classes whose cosine with an image is above this leave its loss, as
  likely the same person under a second label; 0 for none, 0.4 is published for
  noisy sets. For all implementations but pallas."""
  storage: Literal["float32", "bfloat16", "float8"] = "float32"
  """How prototypes are kept; what is narrower is rounded at random."""
  optimizer_storage: Literal["float32", "bfloat16", "float8"] = "float32"
  """How their optimizer's state is kept; float8 for momentum alone."""
  precision: Literal["float32", "bfloat16", "float8"] = "float32"
  """Operands of the matmuls; bfloat16 is faster on accelerators. float8 makes
  the logits in it, where a chip multiplies it, and is bfloat16 elsewhere."""
  block_size: Annotated[int, annotated_types.Ge(1)] | None = None
  """Classes a block; chosen by batch, dimension and kind of device if not
  given."""
  saved_mib: Annotated[int, annotated_types.Ge(0)] = 0
  """Room on each device to keep exponentials of the forward pass (fused):
  less to compute again, up to a quarter of the head's time."""
  extra_classes: Annotated[int, annotated_types.Ge(0)] = 0
  """Classes without images, beside those of the data: distractors."""


CenterConfig = term_config.CenterConfig
DistillationConfig = term_config.DistillationConfig
MemoryConfig = term_config.MemoryConfig
MeshConfig = mesh_config.MeshConfig
OptimConfig = optim_config.OptimConfig
HeadOptimConfig = optim_config.HeadOptimConfig


@dataclasses.dataclass(frozen=True)
class EvalConfig:
  """Verification on pairs of people who were not trained on."""

  pairs: tuple[str, ...] = ()
  """Sets of pairs, one or several: packs (lfw.bin cfp_fp.bin, also .npz), lists
  of pairs such as LFW's, folders of packs. Without any: generated pairs of
  unseen identities (source synthetic), the packs that lie beside the images in
  data.path, or those of hold_out. none: no verification."""
  path: str = ""
  """Folder of the images of lists of pairs; data.path if empty."""
  threshold_pairs: str = ""
  """One more pack or list of pairs, whose best threshold is applied to each of
  `pairs`."""
  hold_out: Annotated[float, annotated_types.Interval(ge=0, lt=1)] | None = None
  """Share of the people with two images or more who are never trained on and
  make pairs, held_out, by the seed. Not given: 0.1 where the images are your own
  files, with 20 such people and neither pairs nor packs beside them; else 0."""
  num_pairs: Annotated[int, annotated_types.Ge(20)] = 2000
  """Number of generated pairs; the most of people held out."""
  every: lengths.EveryOrNever = 0
  """Steps, or passes over the images such as 1ep, between verifications while
  training; 0 only at the end."""
  patience: Annotated[int, annotated_types.Ge(0)] = 0
  """Verifications in a row without a better figure (checkpoint.best) after which
  the run ends, as if its steps were done; 0 for never."""
  batch_size: Annotated[int, annotated_types.Ge(1)] = 128
  """Images embedded at once."""

  def __post_init__(self):
    """Takes one set by itself, too, as recipes have it."""
    if isinstance(self.pairs, str):
      alone = (self.pairs,) if self.pairs else ()
      object.__setattr__(self, "pairs", alone)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
  """What is saved for resuming."""

  every: lengths.Every = 1000
  """Steps, or passes over the images such as 1ep, between checkpoints."""
  keep: Annotated[int, annotated_types.Ge(1)] = 2
  """How many of the newest are kept."""
  keep_best: Annotated[int, annotated_types.Ge(0)] = 1
  """How many of the best are kept as well."""
  best: str = "mean"
  """What says which are: a figure of a set of pairs, such as agedb_30/accuracy or
  lfw/equal_error_rate, or mean, the accuracies of all sets."""


@dataclasses.dataclass(frozen=True)
class Config:
  """A training run."""

  name: str = "run"
  """Name of the recipe."""
  workdir: str = ""
  """Folder of the run; runs/NAME if empty. The same command again resumes."""
  seed: Annotated[int, annotated_types.Interval(ge=0, le=2**32 - 1)] = 0
  """Seed of everything random."""
  steps: Annotated[int, annotated_types.Ge(1)] | None = None
  """Length of the run in steps; give this or epochs."""
  epochs: Annotated[float, annotated_types.Gt(0)] | None = None
  """Length of the run in passes over the images."""
  batch_size: Annotated[int, annotated_types.Ge(1)] = 128
  """Images a step, over all devices."""
  accumulate: Annotated[int, annotated_types.Ge(1)] = 1
  """Parts of the batch that go through the net one after the other: their
  activations alone are in memory, a third more is computed. The loss sees the
  whole batch; BatchNorm sees a part (or model.bn_group of it)."""
  stages: tuple[str, ...] = ()
  """Other settings from a share of the run on (or 2ep, 500st), each in quotes:
  '0.3 head.implementation=fused' '0.8 loss.margin=0.2..0.5'. A stage keeps what the
  one before has changed; a..b moves a number of the loss over the stage;
  loss=NAME is another loss."""
  log_every: Annotated[int, annotated_types.Ge(1)] = 20
  """Steps between log lines."""
  stuck_after: Annotated[float, annotated_types.Ge(0)] = 300.0
  """Seconds without a step (or ten times what steps take, if that is more)
  after which the run ends with the stacks of all threads and exit code 70;
  0 waits for ever."""
  on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
  """A loss (or, but for stop, a gradient) that is not finite: stop ends the run,
  skip leaves the update out, rollback goes back to the last checkpoint and on
  without that batch."""
  check_every: Annotated[int, annotated_types.Ge(0)] = 0
  """Steps between two that are computed twice, to find devices that compute
  wrong; the state is held twice meanwhile. 0 for never."""
  track: tuple[
    Literal["wandb", "mlflow", "trackio", "clearml", "none"], ...
  ] = ()
  """Trackers that are told what metrics.jsonl holds, one or several; none is
  for a recipe that names some."""
  init_from: str = ""
  """Folder of a run, or of facejax.convert, whose net this one starts from: its
  averaged weights, if it keeps an average."""
  init_prototypes: bool = False
  """Takes the prototypes of init_from along, by the names of their classes: new
  people begin as in a new run, those that are gone are left out."""
  distill: str = ""
  """Folder of a run, or of an import, whose net is a teacher: this run's
  embeddings learn from its embeddings of the same images, beside the loss."""
  compatible_with: str = ""
  """Folder of an older run whose gallery is to stay of use: embeddings also
  learn with its prototypes, frozen, so that old and new ones can be compared."""
  compatible_weight: Annotated[float, annotated_types.Gt(0)] = 1.0
  """Weight of that, beside the loss."""
  data: DataConfig = DataConfig()
  augment: augment_lib.Augment = augment_lib.Augment(flip=True)  # noqa: RUF009, frozen
  """Random changes of the training images, beside those of data.policy."""
  model: model_config.ModelConfig = model_config.ModelConfig()  # noqa: RUF009, frozen
  """The net that makes embeddings of images."""
  loss: tyro.conf.AvoidSubcommands[registry.LossConfig] = registry.CosFace()  # noqa: RUF009, frozen
  """The classification loss; each recipe has its own."""
  center: CenterConfig = CenterConfig()  # noqa: RUF009, frozen
  """Center loss, in addition to the classification loss."""
  distillation: DistillationConfig = DistillationConfig()  # noqa: RUF009, frozen
  """What is learnt from the run that `distill` names."""
  memory: MemoryConfig = MemoryConfig()  # noqa: RUF009, frozen
  """A memory of past embeddings, for losses between pairs within a batch."""
  head: HeadConfig = HeadConfig()
  optim: OptimConfig = OptimConfig()  # noqa: RUF009, frozen
  """The optimizer and its learning-rate schedule."""
  mesh: MeshConfig = MeshConfig()  # noqa: RUF009, frozen
  """The devices, and what is split over them."""
  eval: EvalConfig = EvalConfig()
  checkpoint: CheckpointConfig = CheckpointConfig()


def flatten(config: Config) -> dict[str, object]:
  """Every field by its dotted name, as it is written on the command line.

  >>> flatten(Config())["optim.learning_rate"]
  0.1
  """
  return {"loss.name": config.loss.name, **_flat(config)}


def _flat(part: Any, prefix: str = "") -> dict[str, object]:
  found: dict[str, object] = {}
  for field in dataclasses.fields(part):
    value, name = getattr(part, field.name), f"{prefix}{field.name}"
    group = dataclasses.is_dataclass(value)
    found |= _flat(value, f"{name}.") if group else {name: value}
  return found


def stored(config: Config) -> dict[str, Any]:
  """The same as JSON gives it back: what a run's folder keeps (data, no code).

  >>> stored(Config())["data.image_size"]
  [112, 112]
  """
  return json.loads(json.dumps(flatten(config)))
