"""Writes a folder of identities as a data set of TFDS, without TensorFlow."""

import contextlib
import importlib
import itertools
import os
import pathlib
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from facejax.data.stores import folder, tfds_images, tfds_shards
from facejax.runtime import command_line, progress

_DESCRIPTION = """Writes a folder of identities as a data set of TFDS.

SRC holds one folder per identity: SRC/IDENTITY/IMAGE.jpg. The files are stored
as they are, in the order of the folder, in array_record; training on the data
set equals training on the folder. TensorFlow is not needed.

Examples:
  python -m facejax.data.tfds_builder faces ~/tfds --name my_faces
      writes ~/tfds/my_faces/1.0.0
  python -m facejax.train --config cosface.py:lfw \\
      --data.source tfds --data.path ~/tfds/my_faces/1.0.0
      trains on it
  python -m facejax.data.tfds_builder faces ~/tfds --name my_faces \\
      --beam --direct_running_mode=multi_processing --direct_num_workers=8
      with eight processes of Apache Beam
  python -m facejax.data.tfds_builder /nfs/faces /nfs/tfds --name my_faces \\
      --beam --runner=PortableRunner --job_endpoint=SPARK_HOST:8099 \\
      --environment_type=EXTERNAL --environment_config=localhost:50000
      on a cluster, whose machines all see both folders under these names

With --beam, Apache Beam writes the shards in parallel; options that are not
listed here go to Beam.

Exit codes: 0 written, 2 bad input."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_MIB = 2**20

Counter = Callable[[int], None]


class IdentityFolder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Builds a data set of TFDS from ROOT/IDENTITY/IMAGE.

  Each shard is written on its own, so that memory stays small, the order is the
  folder's, and Beam can hand shards to machines. (The usual generator-based
  builder holds what it sorts in memory, and above 1 GB needs TensorFlow.)
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self,
    files: folder.ImageFolder,
    *,
    name: str,
    data_dir: str | os.PathLike[str],
    version: str = "1.0.0",
    shard_bytes: int = 256 * _MIB,
    count: Counter | None = None,
  ):
    """Prepares; `download_and_prepare` writes.

    Args:
      files: The images.
      name: What the data set is called: lower-case letters, digits and `_`.
      data_dir: The folder that holds data sets.
      version: Three numbers, as in 1.0.0.
      shard_bytes: Most bytes of images in a shard, if it has more than one.
      count: Is told how many more images are written; not with Beam.

    Raises:
      ValueError: The name, the version or the name of an identity cannot be
        used.
    """
    if not _NAME.fullmatch(name):
      raise ValueError(
        f"name {name!r} must be lower-case letters, digits and '_', as in"
        " my_faces"
      )
    if shard_bytes < 1:
      raise ValueError(f"shards of {shard_bytes} bytes can hold nothing")
    if not _VERSION.fullmatch(version):
      raise ValueError(f"version {version!r} must be three numbers: 1.0.0")
    tfds_shards.check_identities(files.class_names)
    self._files, self._shard_bytes, self._count = files, shard_bytes, count
    # Attributes of the class, for TFDS: here each instance has its own.
    vars(self).update(name=name, VERSION=tfds.core.Version(version))
    super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    # The names of millions of identities would travel with every shard: they
    # are added when all is written.
    classes = tfds.features.ClassLabel(num_classes=self._files.num_classes)
    return tfds.core.DatasetInfo(
      builder=self,
      description="Images of identities, one class each.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(),
          "label": classes,
          "file": tfds.features.Text(),
        }
      ),
      supervised_keys=("image", "label"),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(
    self, dl_manager: Any
  ) -> Mapping[str, Sequence[Callable[[], Iterator[tfds_shards.Example]]]]:
    del dl_manager
    self._list = pathlib.Path(self.data_dir, "files.list")
    self._shards = tfds_shards.write_list(
      self._files, self._list, self._shard_bytes
    )
    if self._count is None:
      return {"train": self._shards}
    return {
      "train": [tfds_shards.Counted(s, self._count) for s in self._shards]
    }

  def _make_download_manager(
    self, download_dir: Any = None, download_config: Any = None
  ) -> Any:
    # Nothing is downloaded. TFDS's own makes folders for it, and in 4.9.10
    # imports a package that TFDS does not install.
    del download_dir, download_config
    return types.SimpleNamespace(downloaded_size=0)

  def _log_download_bytes(self) -> None:
    """Leaves the console to the progress bar."""

  _log_download_done = _log_download_bytes

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    super()._download_and_prepare(dl_manager, download_config)
    self._list.unlink()
    for left in pathlib.Path(self.data_dir).glob("*.shard_infos.json"):
      left.unlink()
    features: Any = self.info.features
    features["label"].names = list(self._files.class_names)
    # With Beam, TFDS 4.9.10 orders the lengths of eleven shards and more by
    # their number as text: 0, 1, 10, 2.
    starts = [shard.first for shard in self._shards] + [len(self._files)]
    lengths = [end - begin for begin, end in itertools.pairwise(starts)]
    train: Any = self.info.splits["train"]
    self.info.set_splits(
      type(self.info.splits)([train.replace(shard_lengths=lengths)])
    )


def build(
  source: str | os.PathLike[str],
  data_dir: str | os.PathLike[str],
  *,
  name: str,
  version: str = "1.0.0",
  shard_bytes: int = 256 * _MIB,
  max_bad_share: float = 0.01,
  beam: Sequence[str] | None = None,
) -> str:
  """Writes a folder of identities as a data set of TFDS.

  Args:
    source: The folder: ROOT/IDENTITY/IMAGE.
    data_dir: The folder that holds data sets.
    name: What the data set is called.
    version: Three numbers, as in 1.0.0.
    shard_bytes: Most bytes of images in a shard, if it has more than one.
    max_bad_share: The largest share of damaged files that is left out.
    beam: Options of Apache Beam, which then writes the shards; None writes them
      here, one after another.

  Returns:
    The folder of the data set, DATA_DIR/NAME/VERSION.

  Raises:
    FileNotFoundError: There is no such folder.
    ValueError: The folder, a name or an image cannot be used, the data set
      exists already, or Beam is not installed.
  """
  options = None if beam is None else _beam_options(beam)
  target = os.path.join(os.fspath(data_dir), name, version)
  if os.path.exists(target):
    raise ValueError(
      f"{target!r} exists already; choose another name or version"
    )
  files = folder.ImageFolder(source, max_bad_share=max_bad_share)
  with contextlib.ExitStack() as stack:
    count = None
    if beam is None:
      count = stack.enter_context(progress.counting("wrote", len(files)))
    builder = IdentityFolder(
      files,
      name=name,
      data_dir=data_dir,
      version=version,
      shard_bytes=shard_bytes,
      count=count,
    )
    config = tfds.download.DownloadConfig(
      try_download_gcs=False,
      beam_options=options,
      beam_runner=_runner(options),
    )
    try:
      builder.download_and_prepare(download_config=config)
    except RuntimeError as error:
      if beam is None:
        raise
      raise ValueError(f"Apache Beam failed: {error}") from error
  return target


def _beam_options(arguments: Sequence[str]) -> Any:
  try:
    pipeline_options = importlib.import_module(
      "apache_beam.options.pipeline_options"
    )
  except ImportError as error:
    raise ValueError(
      "--beam needs Apache Beam, which is not installed: pip install"
      f" apache-beam ({error})"
    ) from None
  return pipeline_options.PipelineOptions(list(arguments))


def _runner(options: Any) -> str | None:
  if options is None:
    return None
  return options.get_all_options()["runner"] or "DirectRunner"


@command_line.command()
def main(arguments: Sequence[str] | None = None) -> int:
  """The command line; returns the exit code."""
  known = parser()
  args, others = known.parse_known_args(arguments)
  if others and not args.beam:
    known.error(
      f"unknown options {' '.join(others)}; those of Beam need --beam"
    )
  target = build(
    args.source,
    args.data_dir,
    name=args.name,
    version=args.version,
    shard_bytes=args.shard_mib * _MIB,
    max_bad_share=args.max_bad_share,
    beam=others if args.beam else None,
  )
  images = tfds_images.TfdsImages(target)
  print(
    f"{target}: {len(images):,} images of {images.num_classes:,} identities"
  )
  return 0


def parser() -> command_line.Parser:
  """The parser of this command."""
  parser = command_line.parser("data.tfds_builder", _DESCRIPTION)
  add = parser.add_argument
  add("source", metavar="SRC", help="the folder of identities")
  add("data_dir", metavar="DATA_DIR", help="the folder that holds data sets")
  add("--name", required=True, help="of the data set, such as my_faces")
  add("--version", default="1.0.0", help="(1.0.0)")
  add(
    "--shard-mib",
    type=command_line.number(int, 1, 2**20),
    default=256,
    metavar="N",
    help="size of a shard (256)",
  )
  add(
    "--max-bad-share",
    type=command_line.number(float, 0, 1),
    default=0.01,
    help="share of damaged files that is left out (0.01)",
  )
  add("--beam", action="store_true", help="let Apache Beam write the shards")
  return parser


if __name__ == "__main__":
  sys.exit(main())
