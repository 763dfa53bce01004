"""IJB-B and IJB-C: verification of templates, and their search in galleries.

The folder of lists is the one that InsightFace hands on, `ijbc_*` or `ijbb_*`;
see `facejax.data.pairs.templates`. Images are cut out by its five points.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facejax.data import align, encoded, images, orientation
from facejax.data.detectors import contract
from facejax.data.pairs import templates as lists
from facejax.evaluation import (
  error_rates,
  features,
  pair_figures,
  pair_people,
  pair_results,
)
from facejax.metrics import counts as counts_lib
from facejax.metrics import (
  curves,
  gallery,
  identification,
  people_intervals,
  templates,
)
from facejax.runs import results

_FARS = {f"1e-{k}": 10.0**-k for k in range(6, 0, -1)}
_FPIRS = (0.01, 0.1)
_SWITCHES = {
  "keep_norms": ("N", "lengths of features kept", "features at length 1"),
  "use_detector": ("D", "weighed by the detector", "not weighed"),
}


class Crops:
  """Faces cut out of loose crops by their five points; a `sources.Source`."""

  def __init__(
    self,
    root: str,
    faces: lists.DetectedFaces,
    *,
    image_size: tuple[int, int],
    crop: float,
    exif: orientation.Exif,
  ):
    """Notes what to do.

    Args:
      root: the folder of the loose crops.
      faces: the images and their points.
      image_size: height and width that the net takes.
      crop: share of the centre that it was trained on.
      exif: whether crops are turned as their EXIF says.
    """
    self._root, self._faces = pathlib.Path(root), faces
    self._size, self._crop = image_size, crop
    self._exif: orientation.Exif = exif
    self.labels = np.zeros(len(faces.names), np.int32)
    self.class_names = ["all"]
    self.num_classes = 1

  def __len__(self) -> int:
    return len(self._faces.names)

  def name(self, index: int) -> str:
    return self._faces.names[index]

  def __getitem__(self, index: int) -> np.ndarray:
    name = self.name(index)
    data = encoded.read_file(self._root / name)
    image, factor = images.decode_reduced(data, name=name, exif=self._exif)
    points = contract.enlarged(self._faces.points[index], 1 / factor)
    try:
      face = align.align(image, points)
    except align.LandmarkError as error:
      raise images.BadImageError(f"{name}: {error}") from None
    return images.fit(face, image_size=self._size, crop=self._crop)


class Lists:
  """The files of one benchmark, found by their endings."""

  def __init__(self, folder: str):
    """Reads what every run needs.

    Raises:
      FileNotFoundError: if a list is missing.
      ValueError: if one is damaged, or two do not fit.
    """
    self._folder = pathlib.Path(folder)
    if not self._folder.is_dir():
      raise FileNotFoundError(f"there is no folder of lists {folder!r}")
    self.media = lists.read_template_images(self._one("*_face_tid_mid.txt"))
    self.faces = lists.read_detected_faces(self._one("*_name_5pts_score.txt"))
    if list(self.media.names) != list(self.faces.names):
      raise ValueError(
        f"{folder!r}: *_face_tid_mid.txt and *_name_5pts_score.txt list other"
        " images, or in another order"
      )
    self.pairs = self._one("*_template_pair_label.txt")
    self.galleries = sorted(self._folder.glob("*_1N_gallery_*.csv"))
    self.probes = sorted(self._folder.glob("*_1N_probe_mixed.csv"))

  def _one(self, pattern: str) -> pathlib.Path:
    found = sorted(self._folder.glob(pattern))
    if len(found) != 1:
      raise FileNotFoundError(
        f"{str(self._folder)!r} has {len(found)} files {pattern}; give the"
        " folder of the lists of one benchmark with --pairs"
      )
    return found[0]


def result(
  name: str,
  found: features.Features,
  tables: Lists,
  *,
  keep_norms: bool = True,
  use_detector: bool = True,
  samples: int = 200,
  **about: Any,
) -> results.Result:
  """1:1 TAR at FAR 1e-1 … 1e-6, and 1:N where galleries are listed.

  Args:
    name: of the result.
    found: features of all images, in the order of the lists.
    tables: the lists.
    keep_norms: switch N; off, every image weighs the same in its medium.
    use_detector: switch D, weigh each image by the score of its detection.
    samples: draws of each bootstrap.
    about: further fields of the result.
  """
  pooled = templates.pool(
    found.plain,
    tables.media.template,
    tables.media.media,
    mirrored=found.mirrored,
    keep_norms=keep_norms,
    detector_scores=tables.faces.score if use_detector else None,
  )
  how = ["F on: image and mirror image summed"]
  for (letter, on, off), switch in zip(
    _SWITCHES.values(), (keep_norms, use_detector), strict=True
  ):
    how.append(f"{letter} {'on: ' + on if switch else 'off: ' + off}")
  rule = "; ".join([*how, "mean over a medium, sum over media, cosine"])
  pairs = lists.read_template_pairs(tables.pairs)
  scores = templates.pair_scores(
    pooled.features, pooled.rows(pairs.first), pooled.rows(pairs.second)
  )
  scores = scores.astype(np.float64)  # thresholds lie between float32's
  tally = counts_lib.count(scores, pairs.same)
  enrolled = [
    lists.read_enrolled(p) for p in (*tables.galleries, *tables.probes)
  ]
  who = pair_people.of_templates(enrolled, pairs)
  quantities = _verified(
    tally, scores[pairs.same], who and who.of(pairs.same), rule
  )
  quantities += [
    quantity
    for quantity in pair_figures.rates(
      tally, scores, pairs.same, who, samples=samples
    )
    if not quantity.key.startswith("tar_at_far")
  ]
  shown: Mapping[str, Any] = pair_results.curve_points(tally)
  shown |= pair_results.histogram(
    scores, pairs.same, ("impostor pairs", "genuine pairs"), None
  )
  quantities += _searched(pooled, tables, rule)
  return results.Result(
    name=name,
    protocol="templates",
    about=f"{len(pooled.ids):,} templates of {len(tables.media.names):,} images,"
    f" {len(scores):,} pairs",
    quantities=quantities,
    curves=shown,
    **about,
  )


def _verified(
  tally: counts_lib.Counts,
  genuine: np.ndarray,
  who: people_intervals.Compared | None,
  rule: str,
) -> list[results.Quantity]:
  """TAR at FAR; `genuine` are the scores of genuine pairs, `who` is of these."""
  out = []
  for name, far in sorted(_FARS.items(), key=lambda item: item[1]):
    if far * tally.totals()[1] >= 1:
      point = curves.at_far(tally, far)
      note = (
        f"largest TAR with FAR not above, no interpolation: {point.far.successes:,}"
        f" impostor pairs pass at cosine {point.threshold:.4f}; {rule}"
      )
      out.append(
        error_rates.of_share(
          f"tar_at_far_{name}",
          f"1:1 TAR at FAR {name}",
          genuine >= point.threshold,
          who,
          convention=note,
        )
      )
  return out


def _searched(
  pooled: templates.Templates, tables: Lists, rule: str
) -> list[results.Quantity]:
  """Rank-k and TPIR at FPIR, averaged over the galleries."""
  if not tables.galleries or not tables.probes:
    return []
  asked = _once(lists.read_enrolled(tables.probes[0]))
  probes = pooled.features[pooled.rows(asked.template)]
  found = []
  for path in tables.galleries:
    entries = _once(lists.read_enrolled(path))
    found.append(
      gallery.search(
        probes,
        asked.subject,
        pooled.features[pooled.rows(entries.template)],
        entries.subject,
      )
    )
  names = " and ".join(
    path.stem.rpartition("_")[2] for path in tables.galleries
  )
  out = _ranked(found, asked.subject, f"mated probes of {names}; {rule}")
  for fpir in _FPIRS:
    if any(one.mated.all() for one in found):
      break
    value, ends = identification.tpir_of_galleries(
      found, fpir, people=asked.subject
    )
    out.append(
      results.Quantity(
        f"tpir_at_fpir_{fpir:g}",
        f"1:N TPIR at FPIR {fpir:g}",
        value,
        *ends,
        convention=f"NIST, mean over {names}; {rule}; {error_rates.AVERAGED}",
      )
    )
  else:
    out += error_rates.fnir(found, asked.subject)
  return out


def _ranked(
  found: Sequence[gallery.Search], subject: np.ndarray, note: str
) -> list[results.Quantity]:
  """Rank-k of the probes of all galleries, who show these subjects."""
  ranks = np.concatenate([one.ranks[one.mated] for one in found])
  mated = np.concatenate([subject[one.mated] for one in found])
  who = people_intervals.compared(mated, mated)
  return [
    error_rates.of_share(
      f"rank_{k}",
      f"1:N rank-{k}",
      ranks <= k,
      who,
      convention=note,
      what="probes",
    )
    for k in (1, 5, 10)
  ]


def _once(listed: lists.Enrolled) -> lists.Enrolled:
  """Each template once; the lists name it for every image."""
  template, first = np.unique(listed.template, return_index=True)
  return lists.Enrolled(template, listed.subject[first])
